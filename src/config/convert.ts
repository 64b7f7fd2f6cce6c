/** One notation of a configuration > another. Comments stay behind. */
import { stringify } from "yaml";
import { z } from "zod";
import { invalidArgument } from "../core/errors.ts";
import { quote } from "../core/go-text.ts";
import { agentFile } from "./agent-schema.ts";
import { membersOf } from "./decode.ts";
import { type Notation, notationOf, parseConfiguration } from "./parse.ts";
import { printHcl } from "./print-hcl.ts";
import { inner, optionsOf } from "./schema.ts";
import { serverFile } from "./server-schema.ts";
import { readConfigText } from "./text.ts";
import { type Block, ConfigSyntaxError, type Node } from "./tree.ts";

/** What JSON and YAML can hold. */
export type Plain = string | number | boolean | readonly Plain[] | { readonly [key: string]: Plain };

/** @returns the file's text in another notation. @throws SpireError for a file that can't be read. */
export function convertFile(path: string, notation: Notation): string {
  const text = readConfigText(path);
  try {
    return convertText(text, notationOf(path, text), notation);
  } catch (error) {
    if (!(error instanceof ConfigSyntaxError)) throw error;
    throw invalidArgument(`unable to decode configuration at ${quote(path)}: ${error.message}`, error);
  }
}

/** @throws ConfigSyntaxError. */
export function convertText(text: string, from: Notation, to: Notation): string {
  const block = parseConfiguration(text, from);
  const isAgent = block.items.some(({ keys }) => keys[0]?.name.toLowerCase() === "agent");
  const schema = isAgent ? agentFile : serverFile;
  return printers[to](plainBlock([block], schema, []), schema);
}

const printers: Readonly<
  Record<Notation, (value: { readonly [key: string]: Plain }, schema: z.ZodType) => string>
> = {
  json: (value) => `${JSON.stringify(value, null, 2)}\n`,
  yaml: (value) => stringify(value),
  hcl: printHcl,
};

function plainBlock(
  blocks: readonly Block[],
  schema: z.ZodType | undefined,
  path: readonly string[],
): { [key: string]: Plain } {
  const options = schema ? optionsOf(schema) : {};
  const members = membersOf(blocks).map(({ key, nodes }): [string, Plain] => {
    const below = [...path, key.name];
    return [key.name, plainMember(nodes, options[key.name], below)];
  });
  return Object.fromEntries(members);
}

function plainMember(nodes: readonly Node[], schema: z.ZodType | undefined, path: readonly string[]): Plain {
  const blocks = nodes.filter((node) => node.kind === "block");
  const [first] = nodes;
  if (blocks.length !== nodes.length || !first) return plainValues(nodes, path);
  const type = schema && inner(schema);
  if (type instanceof z.ZodArray)
    return blocks.map((block) => plainBlock([block], type.element as z.ZodType, path));
  if (path.length === 2 && path[0]?.toLowerCase() === "plugins") return plainPlugins(blocks, path);
  const below = type instanceof z.ZodRecord ? undefined : type;
  return plainBlock(blocks, below, path);
}

/** As HCL's decoder has it: the last text counts, lists are joined. */
function plainValues(nodes: readonly Node[], path: readonly string[]): Plain {
  const last = nodes.at(-1);
  if (last?.kind !== "list") return last ? plainNode(last, path) : "";
  return nodes
    .flatMap((node) => (node.kind === "list" ? node.items : [node]))
    .map((node) => plainNode(node, path));
}

function plainNode(node: Node, path: readonly string[]): Plain {
  if (node.kind === "block") return plainBlock([node], undefined, path);
  if (node.kind === "list") return node.items.map((item) => plainNode(item, path));
  if (node.kind === "boolean") return node.text === "true";
  if (node.kind === "string") return node.text;
  const value = Number(/^-?0[0-7]+$/.test(node.text) ? node.text.replace("0", "0o") : node.text);
  return Number.isFinite(value) && (node.kind === "float" || Number.isSafeInteger(value)) ? value : node.text;
}

/** By name, or as a list when a name comes twice. */
function plainPlugins(blocks: readonly Block[], path: readonly string[]): Plain {
  const named = blocks.map((block) => plainBlock([block], undefined, path));
  const names = named.flatMap((block) => Object.keys(block));
  if (new Set(names).size < names.length) return named;
  return Object.assign({}, ...named);
}
