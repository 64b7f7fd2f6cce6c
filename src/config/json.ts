/** JSON text > tree, with what HCL's own reader of JSON understands: its escapes, and null as the empty string. */
import { EscapeError, unquoteJson } from "./hcl-strings.ts";
import {
  type Block,
  ConfigSyntaxError,
  type Item,
  type Key,
  type List,
  type Literal,
  type Node,
  type Position,
} from "./tree.ts";

interface Token {
  readonly type: "string" | "number" | "word" | "mark" | "end";
  readonly text: string;
  readonly position: Position;
}

interface Reader {
  next(): Token;
  peek(): Token;
}

/** @throws ConfigSyntaxError. */
export function parseJson(text: string): Block {
  const reader = createReader(text);
  const first = reader.next();
  if (first.text !== "{") throw unexpected(first, "an object");
  const block = parseBlock(reader, first);
  const rest = reader.next();
  if (rest.type !== "end") throw unexpected(rest, "the end of the file");
  return block;
}

const tokenPattern =
  /[ \t\r\n]*(?:("(?:\\.|[^"\\\n\0])*")|(-?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w.])|([A-Za-z]+)|([{}[\]:,]))/sy;

function createReader(text: string): Reader {
  let at = 0;
  let ahead: Token | undefined;
  const read = (): Token => {
    tokenPattern.lastIndex = at;
    const match = tokenPattern.exec(text);
    if (!match) return atEnd();
    const [all, string, number, word] = match;
    const written = all.trimStart();
    const start = at + all.length - written.length;
    at += all.length;
    const type =
      string !== undefined
        ? "string"
        : number !== undefined
          ? "number"
          : word !== undefined
            ? "word"
            : "mark";
    return { type, text: written, position: positionAt(text, start) };
  };
  const atEnd = (): Token => {
    const rest = text.slice(at).trimStart();
    const position = positionAt(text, text.length - rest.length);
    if (rest === "") return { type: "end", text: "", position };
    if (rest.startsWith('"')) throw new ConfigSyntaxError(position, "literal not terminated");
    throw new ConfigSyntaxError(position, `illegal char: ${Array.from(rest)[0]}`);
  };
  return {
    next() {
      const token = ahead ?? read();
      ahead = undefined;
      return token;
    },
    peek: () => (ahead ??= read()),
  };
}

function positionAt(text: string, offset: number): Position {
  const before = text.slice(0, offset).split("\n");
  return { line: before.length, column: Array.from(before.at(-1) ?? "").length + 1 };
}

function parseBlock(reader: Reader, { position }: Token): Block {
  const items: Item[] = [];
  if (reader.peek().text === "}") {
    reader.next();
    return { kind: "block", items, position };
  }
  for (;;) {
    const key = parseKey(reader.next());
    const colon = reader.next();
    if (colon.text !== ":") throw unexpected(colon, '":"');
    items.push({ keys: [key], value: parseValue(reader) });
    const after = reader.next();
    if (after.text === "}" && after.type === "mark") return { kind: "block", items, position };
    if (after.text !== ",") throw unexpected(after, '"," or "}"');
  }
}

function parseKey(token: Token): Key {
  if (token.type !== "string") throw unexpected(token, "a key in quotes");
  return { name: unquoted(token), written: token.text, quoted: false, position: token.position };
}

function parseValue(reader: Reader): Node {
  const token = reader.next();
  const { text, position } = token;
  if (token.type === "string") return { kind: "string", text: unquoted(token), position };
  if (token.type === "number") return { kind: /[.eE]/.test(text) ? "float" : "integer", text, position };
  if (text === "{") return parseBlock(reader, token);
  if (text === "[") return parseList(reader, token);
  const word = words[text];
  if (word) return { ...word, position };
  throw unexpected(token, "a value");
}

const words: Readonly<Record<string, Pick<Literal, "kind" | "text">>> = {
  true: { kind: "boolean", text: "true" },
  false: { kind: "boolean", text: "false" },
  null: { kind: "string", text: "" },
};

function parseList(reader: Reader, { position }: Token): List {
  const items: Node[] = [];
  // HCL lets a comma follow the last element.
  while (reader.peek().text !== "]") {
    items.push(parseValue(reader));
    const { text, type } = reader.peek();
    if (text === "," && type === "mark") reader.next();
    else if (text !== "]") throw unexpected(reader.next(), '"," or "]"');
  }
  reader.next();
  return { kind: "list", items, position };
}

function unquoted({ text, position }: Token): string {
  try {
    return unquoteJson(text);
  } catch (error) {
    if (!(error instanceof EscapeError)) throw error;
    throw new ConfigSyntaxError(position, `illegal string: ${error.message}`);
  }
}

const unexpected = ({ type, text, position }: Token, wanted: string): ConfigSyntaxError =>
  new ConfigSyntaxError(position, `expected ${wanted}, got ${type === "end" ? "the end of the file" : text}`);
