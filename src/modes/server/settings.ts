/** What a server is started with: its configuration, and what only a caller in the same process may ask for. */
import type { FederationConfig, ServerConfig } from "../../config/server-config.ts";

export interface ServerSettings extends Omit<ServerConfig, "log" | "federation"> {
  readonly federation?: FederationSettings;
  /**
   * For `spire dev` alone: lifts the refusal of a development instance's state directory, and keeps the socket to its
   * user, as it may lie in a directory of that user's choice.
   */
  readonly dev: boolean;
  /** Names the agents of certain join tokens, see `createJoinTokenVerifier`; for `spire dev` alone. */
  readonly joinTokenName?: (token: string) => string | undefined;
  /** Of the program, for the log. */
  readonly version: string;
}

interface FederationSettings extends FederationConfig {
  /** PEM certificates that vouch for https_web endpoints; undefined = those of system and runtime. */
  readonly webRoots?: readonly string[];
}

/** What holds unless settings say otherwise; the rest has no sensible default. */
export const defaultServerSettings = {
  bindAddress: "0.0.0.0",
  bindPort: 8081,
  socketPath: "/tmp/spire-server/private/api.sock",
  nodeAttestors: [{ type: "join_token" }],
  credentialComposers: [],
  caTtlSeconds: 86_400,
  caKeyType: "ec-p256",
  jwtKeyType: "ec-p256",
  defaultX509SvidTtlSeconds: 3_600,
  defaultJwtSvidTtlSeconds: 300,
  disableJwtSvids: false,
  agentIdAsSelector: false,
  requirePqKem: false,
  adminIds: [],
  rateLimit: { attestation: true, signing: true },
  auditLog: false,
  proxyProtocolTrustedCidrs: [],
  dev: false,
  version: "dev",
} as const satisfies Partial<ServerSettings>;
