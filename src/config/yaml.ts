/** YAML text > tree: the same configuration, in the notation that many other programs are configured in. */
import { isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Pair, parseDocument } from "yaml";
import { type Block, ConfigSyntaxError, type Item, type Node, type Position } from "./tree.ts";

/** @throws ConfigSyntaxError, also for what a configuration has no use for: aliases, keys that are no text. */
export function parseYaml(text: string): Block {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (range: readonly number[] | null | undefined): Position => {
    const { line, col } = lines.linePos(range?.[0] ?? 0);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const [error] = document.errors;
  if (error) throw new ConfigSyntaxError(at(error.pos), error.message);
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === null)) {
    return { kind: "block", items: [], position: at([0]) };
  }
  const node = nodeOf(contents, at);
  if (node.kind === "block") return node;
  throw new ConfigSyntaxError(node.position, "expected keys and values");
}

type Locate = (range: readonly number[] | null | undefined) => Position;

function nodeOf(value: unknown, at: Locate): Node {
  if (isMap(value)) {
    return { kind: "block", items: value.items.map((pair) => itemOf(pair, at)), position: at(value.range) };
  }
  if (isSeq(value)) {
    return { kind: "list", items: value.items.map((item) => nodeOf(item, at)), position: at(value.range) };
  }
  if (isScalar(value)) return literalOf(value.value, value.source, at(value.range));
  if (isAlias(value)) throw new ConfigSyntaxError(at(value.range), "aliases are not supported");
  return { kind: "string", text: "", position: at(undefined) };
}

function itemOf(pair: Pair, at: Locate): Item {
  if (!isPair(pair) || !isScalar(pair.key))
    throw new ConfigSyntaxError(at(undefined), "a key must be a text");
  const name = pair.key.source ?? String(pair.key.value);
  const position = at(pair.key.range);
  const value: Node =
    pair.value === null || (isScalar(pair.value) && pair.value.value === null)
      ? { kind: "block", items: [], position }
      : nodeOf(pair.value, at);
  return { keys: [{ name, written: name, quoted: false, position }], value };
}

function literalOf(value: unknown, source: string | undefined, position: Position): Node {
  if (typeof value === "boolean") return { kind: "boolean", text: String(value), position };
  if (typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value))) {
    return { kind: "integer", text: String(value), position };
  }
  if (typeof value === "number") return { kind: "float", text: source ?? String(value), position };
  return { kind: "string", text: typeof value === "string" ? value : "", position };
}
