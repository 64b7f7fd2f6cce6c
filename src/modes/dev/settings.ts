/** What the server and the agent of a development instance are told. */
import { join } from "node:path";
import type { AuthorizedEntries } from "../../core/authorized-entries.ts";
import { invalidArgument } from "../../core/errors.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { type AgentSettings, defaultAgentSettings } from "../agent.ts";
import { defaultServerSettings, type ServerSettings } from "../server/settings.ts";
import type { RunningServer } from "../server.ts";
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

export function agentSettings(
  { state, sockets, version }: Places,
  server: RunningServer,
): Omit<AgentSettings, "joinToken" | "bootstrap"> {
  const directory = join(state.path, "agent");
  return {
    ...defaultAgentSettings,
    trustDomain: server.trustDomain,
    serverAddress: server.address,
    socketPath: sockets.workloadApi,
    ...(state.persistent ? { dataDir: directory } : {}),
    keyManager: state.persistent ? { type: "disk", directory } : { type: "memory" },
    unix: { discoverWorkloadPath: true, workloadSizeLimit: 0, hashWanted: watchForHashes(server) },
    version,
  };
}

/**
 * Whether an entry asks for the hash of an executable: hashing a large one takes longer than all else that a
 * workload waits for, so it is done only then.
 */
function watchForHashes({ registry, onChange }: RunningServer): () => boolean {
  let known: boolean | undefined;
  onChange(() => {
    known = undefined;
  });
  return () => {
    known ??= asksForHash(registry.index);
    return known;
  };
}

function asksForHash(index: AuthorizedEntries): boolean {
  for (const id of index.entryIds()) {
    const selectors = index.entry(id)?.selectors ?? [];
    if (selectors.some(({ type, value }) => type === "unix" && value.startsWith("sha256:"))) return true;
  }
  return false;
}
