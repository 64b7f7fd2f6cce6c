/** The `plugins` section: which plugins are named, in which order, with which options. */
import { quote } from "../core/go-text.ts";
import {
  blocksOf,
  type Decoded,
  decodeBlock,
  membersOf,
  textOf,
  truthOf,
  type UnknownKey,
} from "./decode.ts";
import { type Program, pluginBlock, pluginKinds } from "./plugin-catalog.ts";
import type { PluginFacts } from "./plugin-facts.ts";
import { type Block, ConfigSyntaxError, type Item, type Node, type Position } from "./tree.ts";

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
  const unknown: UnknownKey[] = [];
  const all = blocksOf(nodes, "plugins")
    .flatMap(({ items }) => items)
    .flatMap(namedItems)
    .map(({ kind, item }) => decodePlugin(program, kind, item, { readBlock, unknown }));
  return { all, unknown };
}

interface NamedItem {
  readonly kind: string;
  /** Its first key is the plugin's name. */
  readonly item: Item;
}

/** `Kind "name" {…}`, `Kind { name {…} }` and `Kind = [{ name = {…} }]` are the same. */
function namedItems({ keys, value }: Item): readonly NamedItem[] {
  const [first, ...rest] = keys;
  if (!first) return [];
  if (rest.length > 0) return [{ kind: first.name, item: { keys: rest, value } }];
  return blocksOf([value], `plugins.${first.name}`).flatMap(({ items }) =>
    items.map((item) => ({ kind: first.name, item })),
  );
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
  const path = `plugins.${kind}[${quote(name)}]`;
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
    throw new ConfigSyntaxError(
      position,
      `plugin ${quote(name)} has both plugin_data and plugin_data_file; give one`,
    );
  }
  const facts = pluginKinds[program][kind]?.plugins[name];
  return {
    kind,
    name,
    position,
    enabled:
      nodesOf("enabled")
        .map((node) => truthOf(node, `${path}.enabled`))
        .at(-1) ?? true,
    facts,
    data: decodeData(
      facts,
      dataFile === undefined ? blocksOf(data, `${path}.plugin_data`) : [readBlock(dataFile)],
    ),
    command: textIn("plugin_cmd"),
    checksum: textIn("plugin_checksum") ?? "",
    dataFile,
  };
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
      treatment: key.quoted ? "ignore" : "refuse",
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
