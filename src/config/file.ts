/** Reads a configuration: file and flags > raw values in the shape of the schema, with where each comes from. */
import type { z } from "zod";
import { invalidArgument, type SpireError } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import { agentFile, type RawAgentFile } from "./agent-schema.ts";
import { type Decoded, DecodeError, decodeBlock, type UnknownKey } from "./decode.ts";
import { createOrigin, inParentheses, type Origin, type Override, type Sources } from "./origin.ts";
import { notationOf, parseConfiguration } from "./parse.ts";
import type { Program } from "./plugin-catalog.ts";
import { decodeData, decodePlugins, type PluginConfig, type Plugins, PluginsError } from "./plugins.ts";
import { type RawServerFile, serverFile } from "./server-schema.ts";
import { expandEnvironment, readConfigText, readPluginText } from "./text.ts";
import { type Block, ConfigSyntaxError, type Node } from "./tree.ts";

export interface ConfigFile<Raw> {
  readonly raw: Raw;
  readonly origin: Origin;
  /** Undefined when there is no such section. */
  readonly plugins: readonly PluginConfig[] | undefined;
  /** In the order of the text; without those of `plugin_data`. */
  readonly unknown: readonly UnknownKey[];
}

/** @throws SpireError for a file that can't be read or understood. */
export const readServerFile = (sources: Sources): ConfigFile<RawServerFile> =>
  readFile("server", serverFile, sources);

/** @throws SpireError for a file that can't be read or understood. */
export const readAgentFile = (sources: Sources): ConfigFile<RawAgentFile> =>
  readFile("agent", agentFile, sources);

function readFile<S extends z.ZodObject>(
  program: Program,
  schema: S,
  sources: Sources,
): ConfigFile<z.infer<S>> {
  const { path, overrides } = sources;
  const block = path === undefined ? emptyBlock : readBlock(path, sources);
  const isPlugins = ({ keys: [key] }: Block["items"][number]) => key?.name.toLowerCase() === "plugins";
  const nodes = block.items.filter(isPlugins).map(({ keys, value }): Node => {
    const [, ...rest] = keys;
    return rest.length > 0
      ? { kind: "block", items: [{ keys: rest, value }], position: value.position }
      : value;
  });
  const others: Block = { ...block, items: block.items.filter((item) => !isPlugins(item)) };
  const decoded = decoding(path, () => decodeBlock(schema, others, { path: "", section: "top-level" }));
  const plugins = nodes.length > 0 ? decoding(path, () => readPlugins(program, nodes)) : undefined;
  return {
    raw: schema.parse(withOverrides(decoded, overrides)) as z.infer<S>,
    origin: createOrigin(path, decoded.places, overrides),
    plugins: plugins?.all,
    unknown: [...decoded.unknown.map(knowingPlugins), ...(plugins?.unknown ?? [])].sort(inTextOrder),
  };
}

const emptyBlock: Block = { kind: "block", items: [], position: { line: 1, column: 1 } };

const readPlugins = (program: Program, nodes: readonly Node[]): Plugins =>
  decodePlugins(program, nodes, (path) => parseBlock(path, readPluginText(path)));

/** Options that stand in a file of their own. @throws SpireError INVALID_ARGUMENT. */
export const readPluginData = (facts: PluginConfig["facts"], path: string, text: string): Decoded =>
  decoding(path, () => decodeData(facts, [parseBlock(path, text)]));

function readBlock(path: string, { expandEnv, environment }: Sources): Block {
  const text = readConfigText(path);
  return parseBlock(path, expandEnv ? expandEnvironment(text, environment) : text);
}

const parseBlock = (path: string, text: string): Block =>
  decoding(path, () => parseConfiguration(text, notationOf(path, text)));

const inTextOrder = ({ position: a }: UnknownKey, { position: b }: UnknownKey): number =>
  a.line - b.line || a.column - b.column;

const knowingPlugins = (unknown: UnknownKey): UnknownKey =>
  unknown.section === "top-level" ? { ...unknown, known: [...unknown.known, "plugins"] } : unknown;

/** @throws SpireError INVALID_ARGUMENT with the file's name. */
function decoding<T>(path: string | undefined, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw path === undefined ? error : undecodable(path, error);
  }
}

function undecodable(path: string, error: unknown): unknown {
  const failure = (message: string): SpireError =>
    invalidArgument(`unable to decode configuration at ${quote(path)}: ${message}`, error);
  if (error instanceof ConfigSyntaxError) return failure(error.message);
  if (error instanceof PluginsError) {
    const { line, column } = error.position;
    return invalidArgument(
      `${error.message}${inParentheses(`${path}:${line}:${column}`, error.remedy)}`,
      error,
    );
  }
  if (!(error instanceof DecodeError)) return error;
  const { line, column } = error.position;
  return failure(
    `${error.message}${inParentheses(`${path}:${line}:${column}`, `${error.path}: ${error.remedy}`)}`,
  );
}

function withOverrides({ value }: Decoded, overrides: readonly Override[]): Record<string, unknown> {
  const result: Record<string, unknown> = { ...value };
  for (const override of overrides) {
    const [section = "", option = ""] = override.path.split(".");
    result[section] = { ...asObject(result[section]), [option]: override.value };
  }
  return result;
}

const asObject = (value: unknown): object => (typeof value === "object" && value !== null ? value : {});
