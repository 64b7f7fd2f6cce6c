/** Reads the files with plugins' options anew in a running program, as SIGUSR1 asks it to. */
import type { PluginFile } from "../config/plugin-files.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";

/** Names a plugin. */
export interface PluginName {
  /** Such as `NodeAttestor`. */
  readonly kind: string;
  readonly name: string;
}

/** @throws SpireError when the plugin can't take the settings; then the ones before stay in force. */
export type Reconfigure<Config> = (plugin: PluginName, config: Config) => Promise<void>;

/** One round at a time; a signal during a round leads to one more. */
export function createReconfiguration<Config>(
  files: readonly PluginFile<Config>[],
  reconfigure: Reconfigure<Config>,
  log: Logger,
): () => Promise<void> {
  const hashes = new Map(files.map((file) => [file, file.hash]));
  let queue = Promise.resolve();

  async function reread(file: PluginFile<Config>): Promise<void> {
    const { kind, name } = file;
    const fields = { subsystem_name: "catalog", external: false, plugin_name: name, plugin_type: kind };
    const pluginLog = log.with(fields);
    const oldHash = hashes.get(file) ?? "";
    try {
      const { hash, config } = file.reread();
      if (hash === oldHash) {
        pluginLog.info("Plugin not reconfigured since the config is unchanged", { hash });
        return;
      }
      await reconfigure({ kind, name }, config());
      hashes.set(file, hash);
      pluginLog.info("Plugin reconfigured", { old_hash: oldHash, new_hash: hash });
    } catch (error) {
      pluginLog.error("Failed to reconfigure plugin", { error });
    }
  }

  async function round(): Promise<void> {
    log.info("Reconfigure signal received", { subsystem_name: "catalog" });
    for (const file of files) await reread(file);
  }

  return () => {
    queue = queue.then(round);
    return queue;
  };
}

/** For plugins that take their options at the start alone. */
export function needsRestart({ kind, name }: PluginName): SpireError {
  const reason = "it takes its options at the start alone; restart the program";
  return new SpireError("FAILED_PRECONDITION", `${kind} "${name}" can't be reconfigured: ${reason}`);
}
