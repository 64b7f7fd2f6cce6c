/** Text in any of the notations > tree. */
import { parseHcl } from "./hcl.ts";
import { parseJson } from "./json.ts";
import type { Block, Item } from "./tree.ts";
import { parseYaml } from "./yaml.ts";

export type Notation = "hcl" | "json" | "yaml";

/** By the file's name; HCL and JSON are told apart by the first character, as SPIRE does, whatever the name. */
export function notationOf(path: string, text: string): Notation {
  if (/\.ya?ml$/i.test(path)) return "yaml";
  return /^\s*\{/.test(text) ? "json" : "hcl";
}

const parsers: Readonly<Record<Notation, (text: string) => Block>> = {
  hcl: parseHcl,
  json: parseJson,
  yaml: parseYaml,
};

/** @throws ConfigSyntaxError. */
export const parseText = (text: string, notation: Notation): Block => parsers[notation](text);

/** The text as a configuration. @throws ConfigSyntaxError. */
export function parseConfiguration(text: string, notation: Notation): Block {
  const block = parseText(text, notation);
  return notation === "hcl" ? block : withRepeatedBlocks(block);
}

/** JSON and YAML write several blocks of a name as a list; in HCL the name is repeated, and a list is another thing. */
function withRepeatedBlocks(block: Block): Block {
  const items = block.items.flatMap(({ keys, value }): Item[] => {
    if (value.kind === "block") return [{ keys, value: withRepeatedBlocks(value) }];
    if (value.kind !== "list" || value.items.length === 0) return [{ keys, value }];
    const blocks = value.items.filter((item) => item.kind === "block");
    if (blocks.length < value.items.length) return [{ keys, value }];
    return blocks.map((item) => ({ keys, value: withRepeatedBlocks(item) }));
  });
  return { ...block, items };
}
