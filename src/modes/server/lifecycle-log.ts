/** What a server says in its log as it starts and ends, in SPIRE's words: monitoring looks for these lines. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import type { Logger } from "../../core/log.ts";
import type { Listener } from "../../rpc/listen.ts";
import type { ServerSettings } from "./settings.ts";

/** Plugins are set up by the parts that need them; said is which there are. */
export function logPlugins(settings: ServerSettings, parentLog: Logger): void {
  const log = parentLog.with({ subsystem_name: "catalog" });
  log.info("Configured DataStore", { reconfigurable: false });
  for (const { kind, name } of pluginsOf(settings)) {
    const plugin = { external: false, plugin_name: name, plugin_type: kind };
    // Keys in memory have nothing to configure.
    if (name !== "memory") log.info("Configured plugin", { ...plugin, reconfigurable: false });
    log.info("Plugin loaded", plugin);
  }
}

/** Says that they are gone; what closes them is the parts' business. */
export function logPluginsClosed(settings: ServerSettings, parentLog: Logger): void {
  const log = parentLog.with({ subsystem_name: "catalog" });
  for (const { kind, name } of pluginsOf(settings)) {
    log.info("Plugin unloaded", { external: false, plugin_name: name, plugin_type: kind });
  }
  log.info("DataStore closed");
  log.info("Catalog closed");
}

interface NamedPlugin {
  readonly kind: string;
  readonly name: string;
}

function pluginsOf(settings: ServerSettings): readonly NamedPlugin[] {
  const { keyManager, nodeAttestors, credentialComposers, upstreamAuthority } = settings;
  return [
    { kind: "KeyManager", name: keyManager.type },
    ...nodeAttestors.map(({ type }) => ({ kind: "NodeAttestor", name: type })),
    ...(upstreamAuthority ? [{ kind: "UpstreamAuthority", name: upstreamAuthority.type }] : []),
    ...credentialComposers.map(({ type }) => ({ kind: "CredentialComposer", name: type })),
  ];
}

/** Opens the database of the path, and says so. */
export async function openLogged<T>(path: string, parentLog: Logger, open: () => Promise<T>): Promise<T> {
  const log = parentLog.with({ subsystem_name: "sql" });
  const type = "sqlite3";
  log.info("Opening SQL database", { db_type: type });
  const isNew = path === ":memory:" || !existsSync(path);
  if (isNew) log.info("Initializing new database");
  const store = await open();
  log.info("Connected to SQL database", { type, version: process.versions["sqlite"], read_only: false });
  return store;
}

/** Reads the entries into memory, and says so. */
export async function loadLogged<T>(parentLog: Logger, load: () => Promise<T>): Promise<T> {
  const log = parentLog.with({ subsystem_name: "endpoints" });
  log.info("Building in-memory entry cache");
  const loaded = await load();
  log.info("Completed building in-memory entry cache");
  return loaded;
}

/** A listener that says when it begins and ends to serve. */
export function logListener(listener: Listener, network: "tcp" | "unix", parentLog: Logger): Listener {
  const address = network === "unix" ? resolve(listener.address) : listener.address;
  const about = { address, network };
  const log = parentLog.with({ subsystem_name: "endpoints" });
  log.info("Starting Server APIs", about);
  return {
    ...listener,
    async close(graceMs) {
      log.info("Stopping Server APIs", about);
      log.info("Attempting graceful stop", about);
      await listener.close(graceMs);
      log.info("Graceful stop successful", about);
      log.info("Server APIs have stopped", about);
    },
  };
}
