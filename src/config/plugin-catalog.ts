/** The plugins that SPIRE has, with their options; which of them run here, and what their options must fulfil. */
import { agentPlugins } from "./agent-plugins.ts";
import type { PluginKinds } from "./plugin-facts.ts";
import { serverPlugins } from "./server-plugins.ts";

export type Program = "server" | "agent";

export const pluginKinds: Readonly<Record<Program, PluginKinds>> = {
  server: serverPlugins,
  agent: agentPlugins,
};

/** What a block of any plugin may say besides its own options, which come as `plugin_data`. */
export const pluginBlock = {
  enabled: "Whether it is used",
  plugin_data: "The plugin's own options",
  plugin_data_file: "File with those options instead",
  plugin_cmd: "Program of an external plugin",
  plugin_args: "Arguments of that program",
  plugin_checksum: "SHA-256 of that program, hexadecimal",
} as const;
