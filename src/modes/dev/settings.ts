/** What the server and the agent of a development instance are told. */
import { join } from "node:path";
import { invalidArgument } from "../../core/errors.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import type { Registry } from "../../server/registry.ts";
import { type AgentSettings, defaultAgentSettings } from "../agent.ts";
import { defaultServerSettings, type RunningServer, type ServerSettings } from "../server.ts";
import type { SocketDirectory } from "./socket-directory.ts";
import type { StateDirectory } from "./state-directory.ts";

/** Where an instance has its things. */
interface Places {
  readonly state: StateDirectory;
  readonly sockets: SocketDirectory;
  readonly version: string;
}

/** @throws SpireError INVALID_ARGUMENT for an address that others could reach. */
export function requireLoopback(address: string): string {
  if (address === "localhost") return "127.0.0.1";
  if (address === "::1" || /^127(\.\d{1,3}){3}$/.test(address)) return address;
  throw invalidArgument(
    `dev listens on a loopback address only, not on "${address}"; use "server run" for others`,
  );
}

export const serverSettings = (
  { state, sockets, version }: Places,
  trustDomain: TrustDomain,
  bindAddress: string,
  bindPort: number,
): ServerSettings => ({
  ...defaultServerSettings,
  trustDomain,
  bindAddress,
  bindPort,
  socketPath: sockets.server,
  dataDir: state.path,
  keyManager: state.persistent
    ? { type: "disk", keysPath: join(state.path, "keys.json") }
    : { type: "memory" },
  dataStore: { type: "sqlite", path: state.persistent ? join(state.path, "datastore.sqlite3") : ":memory:" },
  dev: true,
  version,
});

export async function agentSettings(
  { state, sockets, version }: Places,
  server: RunningServer,
): Promise<Omit<AgentSettings, "joinToken" | "bootstrap">> {
  const directory = join(state.path, "agent");
  const hashes = await usesHashes(server.registry);
  return {
    ...defaultAgentSettings,
    trustDomain: server.trustDomain,
    serverAddress: server.address,
    socketPath: sockets.workloadApi,
    ...(state.persistent ? { dataDir: directory } : {}),
    keyManager: state.persistent ? { type: "disk", directory } : { type: "memory" },
    unix: { discoverWorkloadPath: true, workloadSizeLimit: hashes ? 0 : -1 },
    version,
  };
}

/**
 * Whether an entry asks for the hash of an executable: hashing a large one takes longer than all else that a
 * workload waits for, so it is done only then.
 */
async function usesHashes(registry: Registry): Promise<boolean> {
  const { items } = await registry.listEntries({}, { size: 0, token: "" });
  return items.some(({ selectors }) =>
    selectors.some(({ type, value }) => type === "unix" && value.startsWith("sha256:")),
  );
}
