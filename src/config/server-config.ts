/** What a server is told once its configuration was read and holds: the one type that file, flags and code meet in. */
import type { FederationRelationship } from "../core/federation.ts";
import type { KeyType } from "../core/keys.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import type { LogSettings } from "./checks.ts";

/** Settings that hold. */
export interface ServerConfig {
  readonly trustDomain: TrustDomain;
  /** IP address or host name to listen on. */
  readonly bindAddress: string;
  /** 0 = a free one. */
  readonly bindPort: number;
  /** Unix socket of the server API. */
  readonly socketPath: string;
  /** Made with 0700 when missing. */
  readonly dataDir: string;
  readonly keyManager: KeyManagerConfig;
  /** `:memory:` is allowed. */
  readonly dataStore: { readonly type: "sqlite"; readonly path: string };
  /** What agents may attest by. */
  readonly nodeAttestors: readonly NodeAttestorConfig[];
  /** Seconds. */
  readonly caTtlSeconds: number;
  readonly caKeyType: KeyType;
  readonly jwtKeyType: KeyType;
  /** Of CA certificates; undefined = C=US, O=SPIFFE. */
  readonly caSubject?: CaSubject;
  /** Seconds. */
  readonly defaultX509SvidTtlSeconds: number;
  /** Seconds. */
  readonly defaultJwtSvidTtlSeconds: number;
  /** Seconds; undefined = `defaultX509SvidTtlSeconds`. */
  readonly agentTtlSeconds?: number;
  /** `iss` of JWT-SVIDs; undefined = none. */
  readonly jwtIssuer?: string;
  readonly disableJwtSvids: boolean;
  readonly adminIds: readonly SpiffeId[];
  readonly rateLimit: { readonly attestation: boolean; readonly signing: boolean };
  /** Undefined = no bundle endpoint, and no relationships but those that are made at run time. */
  readonly federation?: FederationConfig;
  readonly log: LogSettings;
}

type KeyManagerConfig = { readonly type: "memory" } | { readonly type: "disk"; readonly keysPath: string };

/** `type` is the plugin's name. */
export type NodeAttestorConfig = { readonly type: "join_token" };

export interface CaSubject {
  readonly country: readonly string[];
  readonly organization: readonly string[];
  readonly commonName: string;
}

/** `federation` of SPIRE's configuration. */
export interface FederationConfig {
  /** Serves this trust domain's bundle by profile https_spiffe; undefined = not served. */
  readonly bundleEndpoint?: {
    /** IP address or host name to listen on. */
    readonly address: string;
    /** 0 = a free one. */
    readonly port: number;
    /** Seconds between two fetches that clients are told to keep; 5 minutes unless said. */
    readonly refreshHintSeconds?: number;
  };
  /** Each takes the place of one made at run time with the same trust domain. */
  readonly federatesWith: readonly FederationRelationship[];
}
