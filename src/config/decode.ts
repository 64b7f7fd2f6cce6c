/** Tree > plain object in the shape of a schema, as HCL's decoder fills Go's structures, with the place of each value. */
import { z } from "zod";
import { quote } from "../core/go-text.ts";
import { factsOf, inner, optionsOf, type UnknownKeys } from "./schema.ts";
import type { Block, Item, Key, List, Literal, Node, Position } from "./tree.ts";

/** A value of a type that the schema doesn't have there. */
export class DecodeError extends Error {
  readonly position: Position;
  /** Such as `server.ca_ttl`. */
  readonly path: string;
  /** What would be right. */
  readonly remedy: string;

  constructor(message: string, { position }: Pick<Node, "position">, path: string, remedy: string) {
    super(message);
    this.position = position;
    this.path = path;
    this.remedy = remedy;
  }
}

/** A key that the schema doesn't have. */
export interface UnknownKey {
  /** Where SPIRE says it is, such as `server`. */
  readonly section: string;
  readonly name: string;
  readonly position: Position;
  /** What could stand there. */
  readonly known: readonly string[];
  readonly treatment: UnknownKeys;
}

export interface Decoded {
  /** Only what is in the text. */
  readonly value: Readonly<Record<string, unknown>>;
  /** Path, such as `server.ca_ttl`, to the place of the value; of a section's key. */
  readonly places: ReadonlyMap<string, Position>;
  readonly unknown: readonly UnknownKey[];
}

interface Notes {
  readonly places: Map<string, Position>;
  readonly unknown: UnknownKey[];
}

/** @param top path and section name of the whole. @throws DecodeError. */
export function decodeBlock(
  schema: z.ZodType,
  block: Block,
  top: { path: string; section: string },
): Decoded {
  const notes: Notes = { places: new Map(), unknown: [] };
  const value = decodeSection(
    schema,
    [block],
    { path: top.path, section: top.section, treatment: "refuse" },
    notes,
  );
  return { value, ...notes };
}

interface Context {
  readonly path: string;
  readonly section: string;
  readonly treatment: UnknownKeys;
}

/** All values that were given to one key, in order. */
interface Member {
  readonly key: Key;
  readonly nodes: readonly Node[];
  /** As in `key "name" {…}` behind other items: SPIRE never notices that it doesn't know such a key. */
  readonly unnoticed: boolean;
}

/** Keys of the blocks taken together. `fold` makes one of names that differ in case only. */
export function membersOf(
  blocks: readonly Block[],
  fold: (name: string) => string = (name) => name,
): Member[] {
  const members = new Map<string, { key: Key; nodes: Node[]; unnoticed: boolean }>();
  for (const { items } of blocks) {
    for (const [index, item] of items.entries()) {
      const [key] = item.keys;
      if (!key) continue;
      const member = members.get(fold(key.name));
      const unnoticed = index > 0 && item.keys.length > 1;
      if (!member) members.set(fold(key.name), { key, nodes: [valueBelow(item)], unnoticed });
      else {
        member.nodes.push(valueBelow(item));
        member.unnoticed &&= unnoticed;
      }
    }
  }
  return [...members.values()];
}

/** `a "b" {…}` is `a { b {…} }`. */
function valueBelow({ keys, value }: Item): Node {
  const [, ...rest] = keys;
  const [next] = rest;
  return next ? { kind: "block", items: [{ keys: rest, value }], position: next.position } : value;
}

function decodeSection(schema: z.ZodType, blocks: readonly Block[], context: Context, notes: Notes) {
  const options = optionsOf(schema);
  const names = Object.keys(options);
  const value: Record<string, unknown> = {};
  for (const { key, nodes, unnoticed } of membersOf(blocks, (name) => name.toLowerCase())) {
    const name = names.find((known) => known.toLowerCase() === key.name.toLowerCase());
    const option = name === undefined ? undefined : options[name];
    if (name === undefined || option === undefined) {
      // SPIRE never notices unknown keys in quotes.
      const treatment = key.quoted || unnoticed ? "ignore" : context.treatment;
      notes.unknown.push({
        section: context.section,
        name: key.name,
        position: key.position,
        known: names,
        treatment,
      });
      continue;
    }
    const below = { ...contextBelow(option, context, name), path: join(context.path, name) };
    notes.places.set(below.path, placeOf(key, nodes));
    value[name] = decodeValue(option, nodes, below, notes);
  }
  return value;
}

function contextBelow(option: z.ZodType, { treatment }: Context, name: string): Omit<Context, "path"> {
  const facts = factsOf(option);
  return { section: facts?.section ?? name, treatment: facts?.unknownKeys ?? treatment };
}

/** The value's where there is one to point at. */
const placeOf = (key: Key, nodes: readonly Node[]): Position => {
  const last = nodes.at(-1);
  return last && last.kind !== "block" ? last.position : key.position;
};

const join = (path: string, name: string): string => (path === "" ? name : `${path}.${name}`);

function decodeValue(schema: z.ZodType, nodes: readonly Node[], context: Context, notes: Notes): unknown {
  const type = inner(schema);
  if (type instanceof z.ZodString) return nodes.map((node) => textOf(node, context.path)).at(-1);
  if (type instanceof z.ZodNumber) return nodes.map((node) => integerOf(node, context.path)).at(-1);
  if (type instanceof z.ZodBoolean) return nodes.map((node) => truthOf(node, context.path)).at(-1);
  if (type instanceof z.ZodUnion) return decodeAlternative(type, nodes, context, notes);
  if (type instanceof z.ZodArray) return decodeList(type.element as z.ZodType, nodes, context, notes);
  if (type instanceof z.ZodRecord) return decodeNamed(type.valueType as z.ZodType, nodes, context, notes);
  return decodeSection(type, blocksOf(nodes, context.path), context, notes);
}

/** A text or a block, as it comes. */
function decodeAlternative(
  type: z.ZodUnion,
  nodes: readonly Node[],
  context: Context,
  notes: Notes,
): unknown {
  const isBlock = nodes.some(({ kind }) => kind === "block");
  const option = type.options.find((candidate) => candidate instanceof z.ZodString !== isBlock);
  return option instanceof z.ZodType ? decodeValue(option, nodes, context, notes) : undefined;
}

function decodeList(element: z.ZodType, nodes: readonly Node[], context: Context, notes: Notes): unknown[] {
  if (!(element instanceof z.ZodString)) {
    const wrong = nodes.find(({ kind }) => kind !== "list" && kind !== "block");
    if (wrong)
      throw wrongType(`unknown slice type: ${goType(wrong)}`, wrong, context.path, "write a block: { … }");
    return nodes.flatMap(elementsOf).map((node, index) => {
      return decodeValue(element, [node], { ...context, path: `${context.path}[${index}]` }, notes);
    });
  }
  return nodes.flatMap((node) => {
    // HCL's decoder takes an empty block for an empty list.
    if (node.kind === "block" && node.items.length === 0) return [];
    if (node.kind !== "list")
      throw wrongType(`unknown slice type: ${goType(node)}`, node, context.path, listRemedy);
    return node.items.map((item, index) => {
      const path = `${context.path}[${index}]`;
      if (item.kind !== "block") return textOf(item, path);
      const { line, column } = item.position;
      const message = `At ${line}:${column}: root.${path}: unknown type for string *ast.ObjectType`;
      throw new DecodeError(message, item, path, "write a text");
    });
  });
}

const listRemedy = 'write a list such as ["a", "b"]';

/** A block of its own name may be an element, too. */
const elementsOf = (node: Node): readonly Node[] => (node.kind === "list" ? node.items : [node]);

function decodeNamed(type: z.ZodType, nodes: readonly Node[], context: Context, notes: Notes) {
  const value: Record<string, unknown> = {};
  const wrong = nodes.find(({ kind }) => kind !== "block");
  if (wrong) {
    const message = `root.${context.path}: not an object type for map (${goType(wrong)})`;
    throw wrongType(message, wrong, context.path, 'write a block with a name: "…" { … }');
  }
  for (const { key, nodes: below } of membersOf(blocksOf(nodes, context.path))) {
    const path = `${context.path}[${quote(key.name)}]`;
    notes.places.set(path, key.position);
    value[key.name] = decodeValue(type, below, { ...context, path }, notes);
  }
  return value;
}

/** @throws DecodeError. */
export function blocksOf(nodes: readonly Node[], path: string): readonly Block[] {
  return nodes.map((node) => {
    if (node.kind === "block") return node;
    const message = `root.${path.replace(/\["([^"]*)"\]/g, ".$1")}: not an object type for struct (${goType(node)})`;
    throw wrongType(message, node, path, "write a block: { … }");
  });
}

/** Numbers are as good as texts. @throws DecodeError. */
export function textOf(node: Node, path: string): string {
  if (node.kind === "string" || node.kind === "integer") return node.text;
  const remedy =
    node.kind === "list" || node.kind === "block" ? "write a text" : `write "${node.text}", in quotes`;
  throw wrongType(`root.${path}: unknown type for string ${goType(node)}`, node, path, remedy);
}

/** Numbers may stand in quotes, and have a base as in Go. @throws DecodeError. */
function integerOf(node: Node, path: string): number {
  const remedy = "write a whole number";
  if (node.kind !== "integer" && node.kind !== "string") {
    throw wrongType(`root.${path}: unknown type ${goType(node)}`, node, path, remedy);
  }
  const match = /^([+-]?)(0[xX](?:_?[\dA-Fa-f])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?\d)*)$/.exec(
    node.text,
  );
  const failure = `strconv.ParseInt: parsing ${quote(node.text)}`;
  if (!match) throw new DecodeError(`${failure}: invalid syntax`, node, path, remedy);
  const [, sign, written = ""] = match;
  const digits = written.replaceAll("_", "");
  const value = Number(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  if (!Number.isSafeInteger(value))
    throw new DecodeError(`${failure}: value out of range`, node, path, remedy);
  return sign === "-" ? -value : value;
}

/** @throws DecodeError. */
export function truthOf(node: Node, path: string): boolean {
  if (node.kind === "boolean") return node.text === "true";
  throw wrongType(
    `root.${path}: unknown type ${goType(node)}`,
    node,
    path,
    "write true or false, without quotes",
  );
}

const goTypes = { list: "*ast.ListType", block: "*ast.ObjectList" } as const;

/** As messages of HCL's decoder call it. */
export const goType = (node: Literal | List | Block): string =>
  node.kind === "list" || node.kind === "block" ? goTypes[node.kind] : "*ast.LiteralType";

export function wrongType(message: string, node: Node, path: string, remedy: string): DecodeError {
  // Nor does HCL's decoder know where a block begins.
  const at = node.kind === "block" ? "-" : `${node.position.line}:${node.position.column}`;
  return new DecodeError(`At ${at}: ${message}`, node, path, remedy);
}
