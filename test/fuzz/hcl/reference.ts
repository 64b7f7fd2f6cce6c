/** Our trees in the form that the reference prints, and what its decoder would make of them. */
import type { Block, Item, Node } from "../../../src/config/tree.ts";

export type Value = string | boolean | null | readonly Value[] | { readonly [key: string]: Value };

const place = ({ position: { line, column } }: Pick<Node, "position">): string => `${line}:${column}`;

const literalTypes = { string: "STRING", integer: "NUMBER", float: "FLOAT", boolean: "BOOL" } as const;

/** The tree as it is printed; heredocs count as strings on both sides. */
export const describeTree = ({ items }: Pick<Block, "items">): Value => ({
  items: items.map(({ keys, value }) => ({
    keys: keys.map((key) => [key.name, place(key)]),
    value: describeNode(value),
  })),
});

function describeNode(node: Node): Value {
  if (node.kind === "list") return { list: node.items.map(describeNode), at: place(node) };
  if (node.kind === "block") return { ...(describeTree(node) as object), at: place(node) };
  return { literal: literalTypes[node.kind], text: node.text, at: place(node) };
}

/** JSON has no blocks with two keys: the reference makes them of objects in which all members are objects. */
export function flatten(block: Block): Block {
  return { ...block, items: block.items.flatMap(flattenItem).map(flattenBelow) };
}

function flattenItem(item: Item): readonly Item[] {
  const { keys, value } = item;
  if (value.kind === "list" && value.items.length > 0 && value.items.every(({ kind }) => kind === "block")) {
    return value.items.flatMap((element) => flattenItem({ keys, value: element }));
  }
  if (
    value.kind === "block" &&
    value.items.length > 0 &&
    value.items.every((below) => below.value.kind === "block")
  ) {
    return value.items.flatMap((below) =>
      flattenItem({ keys: [...keys, ...below.keys], value: below.value }),
    );
  }
  return [item];
}

const flattenBelow = ({ keys, value }: Item): Item => ({ keys, value: flattenNode(value) });

function flattenNode(node: Node): Node {
  if (node.kind === "block") return flatten(node);
  return node.kind === "list" ? { ...node, items: node.items.map(flattenNode) } : node;
}

/** What the reference refuses to decode. */
export class Undecodable extends Error {}

/** A value under construction, with the type that it got from what came first. */
type Typed =
  | { readonly type: "map"; readonly entries: ReadonlyMap<string, Typed> }
  | { readonly type: "maps" | "list"; readonly elements: readonly Typed[] }
  | { readonly type: "string" | "integer" | "float"; readonly text: string }
  | { readonly type: "boolean"; readonly text: string };

/** Items that are decoded together: those of a block, or those that share a first key. */
interface Items {
  readonly kind: "items";
  readonly items: readonly Item[];
}

type Decodable = Node | Items;

/** What `hcl.Decode` puts into a `map[string]interface{}`. @throws Undecodable. */
export const decodeValue = (block: Block): Value => plain(decodeMap(block.items, undefined));

function decodeMap(items: readonly Item[], old: ReadonlyMap<string, Typed> | undefined): Typed {
  const entries = new Map(old);
  const done = new Set<string>();
  for (const { keys, value } of items) {
    const name = keys[0]?.name;
    if (name === undefined) throw new Undecodable("no key");
    if (done.has(name)) continue;
    const isNested = keys.length > 1;
    if (isNested) done.add(name);
    const node = isNested ? withoutFirst(items, name) : value;
    entries.set(name, decodeAny(node, entries.get(name), false));
  }
  return { type: "map", entries };
}

const withoutFirst = (items: readonly Item[], name: string): Items => ({
  kind: "items",
  items: items
    .filter(({ keys }) => keys[0]?.name.toLowerCase() === name.toLowerCase())
    .map(({ keys, value }) => ({ keys: keys.slice(1), value })),
});

function decodeAny(node: Decodable, old: Typed | undefined, inList: boolean): Typed {
  if (old) return decodeAs(old, node);
  switch (node.kind) {
    case "block":
    case "items":
      return inList ? decodeMap(node.items, undefined) : decodeAs({ type: "maps", elements: [] }, node);
    case "list":
      return decodeAs({ type: "list", elements: [] }, node);
    default:
      return decodeAs({ type: node.kind, text: "" }, node);
  }
}

function decodeAs(old: Typed, node: Decodable): Typed {
  switch (old.type) {
    case "map":
      if (node.kind !== "block" && node.kind !== "items") throw new Undecodable("not an object");
      return decodeMap(node.items, old.entries);
    case "maps":
      return { type: "maps", elements: [...old.elements, ...elementsOf(node).map(decodeElement)] };
    case "list":
      return { type: "list", elements: [...old.elements, ...elementsOf(node).map(decodeListElement)] };
    default:
      return decodeLiteral(old.type, node);
  }
}

function elementsOf(node: Decodable): readonly (Node | Item)[] {
  if (node.kind === "items") return node.items;
  if (node.kind === "block") return [node];
  if (node.kind === "list") return node.items;
  throw new Undecodable("no list");
}

function decodeElement(element: Node | Item): Typed {
  if (!("kind" in element)) return decodeMap([element], undefined);
  if (element.kind !== "block") throw new Undecodable("not an object");
  return decodeMap(element.items, undefined);
}

function decodeListElement(element: Node | Item): Typed {
  if (!("kind" in element)) throw new Undecodable("an item");
  return decodeAny(element, undefined, true);
}

function decodeLiteral(type: "string" | "integer" | "float" | "boolean", node: Decodable): Typed {
  if (!("text" in node)) throw new Undecodable("no literal");
  const accepted = {
    string: ["string", "integer"],
    integer: ["integer", "string"],
    float: ["float", "integer"],
    boolean: ["boolean"],
  } as const;
  if (!accepted[type].some((kind) => kind === node.kind)) throw new Undecodable("another type");
  if (type === "integer") return { type, text: integerText(node.text) };
  if (type === "float") return { type, text: floatText(node.text) };
  return { type, text: node.text };
}

/** Go's `strconv.ParseInt(text, 0, 64)`. */
function integerText(text: string): string {
  const match = /^([+-]?)(0[xX][\dA-Fa-f]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9]\d*)$/.exec(text);
  if (!match) throw new Undecodable("no integer");
  const [, sign = "", digits = ""] = match;
  const magnitude = BigInt(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
  const value = sign === "-" ? -magnitude : magnitude;
  if (BigInt.asIntN(64, value) !== value) throw new Undecodable("out of range");
  return String(value);
}

function floatText(text: string): string {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text)) throw new Undecodable("no number");
  const value = Number(text);
  if (!Number.isFinite(value)) throw new Undecodable("out of range");
  return Object.is(value, -0) ? "-0" : String(value);
}

function plain(value: Typed): Value {
  switch (value.type) {
    case "map":
      return Object.fromEntries([...value.entries].map(([key, element]) => [key, plain(element)]));
    case "maps":
    case "list":
      return value.elements.map(plain);
    case "boolean":
      return value.text === "true";
    case "string":
      return value.text;
    default:
      return { [value.type]: value.text };
  }
}
