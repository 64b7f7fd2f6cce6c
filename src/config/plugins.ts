/** The `plugins` section: which plugins are named, in which order, with which options. */
import { SpireError } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import {
  blocksOf,
  type Decoded,
  DecodeError,
  decodeBlock,
  goType,
  membersOf,
  textOf,
  truthOf,
  type UnknownKey,
  wrongType,
} from "./decode.ts";
import { type Program, pluginBlock, pluginKinds } from "./plugin-catalog.ts";
import type { PluginFacts } from "./plugin-facts.ts";
import type { Block, Item, Node, Position } from "./tree.ts";

export interface PluginConfig {
  /** Such as `NodeAttestor`. */
  readonly kind: string;
  readonly name: string;
  readonly position: Position;
  readonly enabled: boolean;
  /** What SPIRE has by that name; undefined for external and unknown ones. */
  readonly facts: PluginFacts | undefined;
  /** Its options, decoded if it is known. */
  readonly data: Decoded;
  /** Why its options can't be read; then `data` has none. */
  readonly dataProblem: { readonly message: string; readonly remedy: string | undefined } | undefined;
  /** Program of an external plugin. */
  readonly command: string | undefined;
  readonly checksum: string;
  /** The file that holds the options, if they aren't in the block. */
  readonly dataFile: string | undefined;
}

export interface Plugins {
  readonly all: readonly PluginConfig[];
  /** Keys of plugin blocks, not of their options. */
  readonly unknown: readonly UnknownKey[];
}

/** @param readBlock reads a file with options. @throws DecodeError, ConfigSyntaxError. */
export function decodePlugins(
  program: Program,
  nodes: readonly Node[],
  readBlock: (path: string) => Block,
): Plugins {
  const wrong = nodes.find(({ kind }) => kind !== "block");
  if (wrong)
    throw new PluginsError(
      `expected plugins node type *ast.ObjectList but got ${goType(wrong)}`,
      wrong.position,
    );
  const unknown: UnknownKey[] = [];
  const all = blocksOf(nodes, "plugins")
    .flatMap(({ items }) => items)
    .flatMap((item, index) =>
      withIndex(index, () =>
        namedItems(item).map((named) =>
          decodePlugin(program, named.kind, named.item, { readBlock, unknown }),
        ),
      ),
    );
  for (const [index, { kind, name, position }] of all.entries()) {
    if (!all.slice(0, index).some((other) => other.kind === kind && other.name === name)) continue;
    throw new PluginsError(`plugin ${quote(kind)}/${quote(name)} declared more than once`, position);
  }
  return { all, unknown };
}

/** What makes the section useless, in SPIRE's words. */
export class PluginsError extends Error {
  readonly position: Position;
  constructor(message: string, position: Position, remedy?: string) {
    super(message);
    this.position = position;
    this.remedy = remedy;
  }
  readonly remedy: string | undefined;
}

/** SPIRE names the section's items by their number. */
function withIndex<T>(index: number, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const message = error.message.replace(/\broot\.plugins\./, `root[${index}].`);
    throw new PluginsError(
      `failed to decode plugins config: ${message}`,
      error.position,
      `${error.path}: ${error.remedy}`,
    );
  }
}

interface NamedItem {
  readonly kind: string;
  /** Its first key is the plugin's name. */
  readonly item: Item;
}

/** `Kind "name" {…}` and `Kind { name {…} }` are the same. */
function namedItems({ keys, value }: Item): readonly NamedItem[] {
  const [first, ...rest] = keys;
  if (!first) return [];
  if (rest.length > 0) return [{ kind: first.name, item: { keys: rest, value } }];
  if (value.kind !== "block") {
    const message = `root.plugins.${first.name}: not an object type for map (${goType(value)})`;
    throw wrongType(message, value, `plugins.${first.name}`, `write ${first.name} "name" { … }`);
  }
  return value.items.map((item) => ({ kind: first.name, item }));
}

interface Tools {
  readonly readBlock: (path: string) => Block;
  readonly unknown: UnknownKey[];
}

function decodePlugin(
  program: Program,
  kind: string,
  item: Item,
  { readBlock, unknown }: Tools,
): PluginConfig {
  const [key, ...rest] = item.keys;
  const position = key?.position ?? item.value.position;
  const name = key?.name ?? "";
  const path = `plugins.${kind}.${name}`;
  const value: Node =
    rest.length > 0 ? { kind: "block", items: [{ keys: rest, value: item.value }], position } : item.value;
  const members = membersOf(blocksOf([value], path), (text) => text.toLowerCase());
  const nodesOf = (option: keyof typeof pluginBlock): readonly Node[] =>
    members.find((member) => member.key.name.toLowerCase() === option)?.nodes ?? [];
  const textIn = (option: keyof typeof pluginBlock) =>
    nodesOf(option)
      .map((node) => textOf(node, `${path}.${option}`))
      .at(-1);
  noteUnknown(members, `plugin ${quote(name)}`, unknown);
  const dataFile = textIn("plugin_data_file");
  const data = nodesOf("plugin_data");
  if (dataFile !== undefined && data.length > 0) {
    const message = `failed to create plugin config for ${quote(kind)}/${quote(name)}: only one of [plugin_data, plugin_data_file] can be used`;
    throw new PluginsError(message, position);
  }
  const facts = pluginKinds[program][kind]?.plugins[name];
  const enabled =
    nodesOf("enabled")
      .map((node) => truthOf(node, `${path}.enabled`))
      .at(-1) ?? true;
  const wrongArgs = nodesOf("plugin_args").find((node) => node.kind !== "list");
  if (wrongArgs) {
    const message = `unknown slice type: ${goType(wrongArgs)}`;
    throw wrongType(message, wrongArgs, `${path}.plugin_args`, 'write a list such as ["a", "b"]');
  }
  return {
    kind,
    name,
    position,
    // SPIRE never looks whether the datastore is.
    enabled: kind === "DataStore" || enabled,
    facts,
    ...readData(facts, () => (dataFile === undefined ? dataBlocks(data) : [readBlock(dataFile)])),
    command: textIn("plugin_cmd") || undefined,
    checksum: textIn("plugin_checksum") ?? "",
    dataFile,
  };
}

/** `plugin_data = "x"` is a plugin's business to refuse. */
function dataBlocks(nodes: readonly Node[]): readonly Block[] {
  const wrong = nodes.find(({ kind }) => kind !== "block");
  if (wrong)
    throw new DecodeError("plugin configuration is malformed", wrong, "plugin_data", "write a block: { … }");
  return blocksOf(nodes, "plugin_data");
}

/** What is wrong with the options themselves counts against the plugin, not the section. */
function readData(
  facts: PluginFacts | undefined,
  read: () => readonly Block[],
): Pick<PluginConfig, "data" | "dataProblem"> {
  try {
    return { data: decodeData(facts, read()), dataProblem: undefined };
  } catch (error) {
    if (!(error instanceof DecodeError || error instanceof SpireError)) throw error;
    const remedy = error instanceof DecodeError ? `${error.path}: ${error.remedy}` : undefined;
    return { data: noData, dataProblem: { message: error.message, remedy } };
  }
}

function noteUnknown(members: ReturnType<typeof membersOf>, section: string, unknown: UnknownKey[]): void {
  const known = Object.keys(pluginBlock);
  for (const { key } of members) {
    if (known.includes(key.name.toLowerCase())) continue;
    unknown.push({
      section,
      name: key.name,
      position: key.position,
      known,
      // SPIRE takes no notice.
      treatment: "ignore",
    });
  }
}

const noData: Decoded = { value: {}, places: new Map(), unknown: [] };

/** Options of a plugin; paths are relative to them. @throws DecodeError. */
export function decodeData(facts: PluginFacts | undefined, blocks: readonly Block[]): Decoded {
  if (!facts) return noData;
  const items = blocks.flatMap((block) => block.items);
  const position = blocks[0]?.position ?? { line: 1, column: 1 };
  return decodeBlock(facts.options, { kind: "block", items, position }, { path: "", section: "plugin_data" });
}
