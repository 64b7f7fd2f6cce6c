/** Where a server's data are, for commands that need no running server: as `run` would find them. */
import { loadServer } from "../config/server.ts";
import { SpireError } from "../core/errors.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import type { Invocation } from "./command.ts";
import { boolFlag, stringFlag } from "./flags.ts";
import { pathToRun, sourcesOf } from "./run.ts";
import { usualPath } from "./run-server.ts";

export interface ServerData {
  readonly trustDomain: TrustDomain;
  readonly databasePath: string;
  readonly socketPath: string;
  /** The file of the disk key manager; undefined = another key manager. */
  readonly keysPath?: string;
}

export const dataFlags = {
  config: stringFlag(`Path to the server's config file; ${usualPath} if not set and there`),
  expandEnv: boolFlag("Expand environment variables in the config file"),
  dataDir: stringFlag("Directory of the server's runtime data"),
  trustDomain: stringFlag("The trust domain that the server belongs to"),
  socketPath: stringFlag("Path to the SPIRE Server API socket"),
};

const options = { dataDir: "data_dir", trustDomain: "trust_domain", socketPath: "socket_path" };

/** @throws SpireError for a configuration that doesn't hold, or keeps its data where this can't reach them. */
export async function readServerData({
  flags,
  given,
  terminal,
}: Invocation<typeof dataFlags>): Promise<ServerData> {
  const path = pathToRun(flags.config, usualPath);
  const sources = sourcesOf({ flags, given, environment: terminal.env }, "server", options, path);
  const { config, pluginProblems, notYet } = await loadServer(sources);
  const problem = pluginProblems[0]?.failure ?? notYet.find((sentence) => sentence.includes("database_type"));
  if (problem !== undefined) throw new SpireError("INVALID_ARGUMENT", problem);
  if (config.dataStore.path === ":memory:") {
    throw new SpireError("FAILED_PRECONDITION", "the datastore is in memory: there is no file to work on");
  }
  return {
    trustDomain: config.trustDomain,
    databasePath: config.dataStore.path,
    socketPath: config.socketPath,
    ...(config.keyManager.type === "disk" ? { keysPath: config.keyManager.keysPath } : {}),
  };
}
