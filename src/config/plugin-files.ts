/** Plugins whose options are in files of their own (`plugin_data_file`), which a running program can read anew. */
import { createHash } from "node:crypto";
import { invalidArgument } from "../core/errors.ts";
import { type ConfigFile, readPluginData } from "./file.ts";
import { inParentheses } from "./origin.ts";
import type { Program } from "./plugin-catalog.ts";
import { pluginProblems } from "./plugin-problems.ts";
import type { PluginConfig } from "./plugins.ts";
import { readPluginText } from "./text.ts";

/** One plugin's file. */
export interface PluginFile<Config> {
  /** Such as `NodeAttestor`. */
  readonly kind: string;
  readonly name: string;
  /** Of the text that is in force; tells whether the file has changed. */
  readonly hash: string;
  /**
   * The file as it is now, and the whole configuration with what it says.
   * @throws SpireError when it can't be read, or its options don't hold.
   */
  reread(): { readonly hash: string; readonly config: () => Config };
}

/** @param configOf the configuration with these plugins in place of those of the file. */
export function pluginFilesOf<Config>(
  program: Program,
  { plugins = [], origin }: Pick<ConfigFile<unknown>, "plugins" | "origin">,
  configOf: (plugins: readonly PluginConfig[]) => Config,
): readonly PluginFile<Config>[] {
  return plugins.flatMap((plugin): PluginFile<Config>[] => {
    const { kind, name, dataFile, enabled } = plugin;
    if (dataFile === undefined || !enabled || plugin.dataProblem) return [];
    const withText = (text: string): Config => {
      const changed = { ...plugin, data: readPluginData(plugin.facts, dataFile, text) };
      const [problem] = pluginProblems(program, [changed], origin).filter(({ heading }) =>
        heading.startsWith(`${kind} "${name}"`),
      );
      if (problem) throw invalidArgument(`${problem.failure}${inParentheses(dataFile, undefined)}`);
      return configOf(plugins.map((other) => (other === plugin ? changed : other)));
    };
    return [
      {
        kind,
        name,
        hash: hashOf(readPluginText(dataFile)),
        reread() {
          const text = readPluginText(dataFile);
          return { hash: hashOf(text), config: () => withText(text) };
        },
      },
    ];
  });
}

/** As SPIRE prints it. */
const hashOf = (text: string): string => createHash("sha512").update(text).digest("hex").slice(0, 32);
