/** HCL 1 text > tree: blocks, assignments, lists; the language that SPIRE's configuration files are written in. */
import { EscapeError, heredocText, unquoteHcl } from "./hcl-strings.ts";
import { createTokens, type Token, type Tokens, type TokenType } from "./hcl-tokens.ts";
import {
  type Block,
  ConfigSyntaxError,
  type Item,
  type Key,
  type List,
  type Literal,
  type Node,
} from "./tree.ts";

/** @throws ConfigSyntaxError with HCL's own words. */
export function parseHcl(text: string): Block {
  const tokens = createTokens(text.replaceAll("\r\n", "\n"));
  try {
    const items = parseItems(createReader(tokens), false);
    refuseComplaint(tokens);
    return { kind: "block", items, position: { line: 1, column: 1 } };
  } catch (error) {
    refuseComplaint(tokens);
    throw error;
  }
}

/** A damaged token comes first: what the parser makes of it helps nobody. */
function refuseComplaint(tokens: Tokens): void {
  const complaint = tokens.complaint();
  if (complaint) throw complaint;
}

/** Tokens without comments, with one step back. */
interface Reader {
  scan(): Token;
  unscan(): void;
}

function createReader(tokens: Tokens): Reader {
  let last: Token | undefined;
  let isUnscanned = false;
  return {
    scan() {
      if (last && isUnscanned) {
        isUnscanned = false;
        return last;
      }
      last = tokens.scan();
      while (last.type === "COMMENT") last = tokens.scan();
      return last;
    },
    unscan() {
      isUnscanned = true;
    },
  };
}

/** The text ended where a value was due. The block around it says what is missing. */
class Ended extends Error {}

/** @param inBraces false at the top, where the text's end is the end. */
function parseItems(reader: Reader, inBraces: boolean): Item[] {
  const items: Item[] = [];
  for (;;) {
    if (inBraces) {
      const { type } = reader.scan();
      reader.unscan();
      if (type === "RBRACE") return items;
    }
    const item = parseItemOrEnd(reader);
    if (!item) return items;
    items.push(item);
    if (reader.scan().type !== "COMMA") reader.unscan();
  }
}

function parseItemOrEnd(reader: Reader): Item | undefined {
  try {
    return parseItem(reader);
  } catch (error) {
    if (error instanceof Ended) return undefined;
    throw error;
  }
}

function parseItem(reader: Reader): Item {
  const keys: Key[] = [];
  for (;;) {
    const token = reader.scan();
    switch (token.type) {
      case "IDENT":
      case "STRING":
        keys.push(keyOf(token));
        break;
      case "ASSIGN":
        if (keys.length > 1) throw refusal(token, "nested object expected: LBRACE got: ASSIGN");
        if (keys.length === 0) throw refusal(token, "no object keys found!");
        return { keys, value: withLookAhead(reader, parseValue(reader)) };
      case "LBRACE":
        if (keys.length === 0) throw refusal(token, "expected: IDENT | STRING got: LBRACE");
        return { keys, value: withLookAhead(reader, parseBlock(reader, token)) };
      default:
        throw notAKey(token, keys);
    }
  }
}

/** HCL looks at the next token before it goes on; a text's end is counted in columns by such looks. */
function withLookAhead<T>(reader: Reader, value: T): T {
  reader.scan();
  reader.unscan();
  return value;
}

function notAKey(token: Token, keys: readonly Key[]): Error {
  if (token.type === "EOF" && keys.length === 0) return new Ended();
  if (keys.length > 0 && (token.type === "EOF" || token.type === "RBRACE")) {
    const names = keys.map(({ written }) => written).join(" ");
    return refusal(token, `key '${names}' expected start of object ('{') or assignment ('=')`);
  }
  if (token.type === "ILLEGAL") return refusal(token, "illegal character");
  return refusal(token, `expected: IDENT | STRING | ASSIGN | LBRACE got: ${token.type}`);
}

const keyOf = (token: Token): Key => ({
  name: token.type === "STRING" ? stringOf(token, unquoteHcl) : token.text,
  written: token.text,
  quoted: token.type === "STRING",
  position: token.position,
});

function parseValue(reader: Reader): Node {
  const token = reader.scan();
  const literal = literalOf(token);
  if (literal) return literal;
  if (token.type === "LBRACE") return parseBlock(reader, token);
  if (token.type === "LBRACK") return parseList(reader, token);
  if (token.type === "EOF") throw new Ended();
  const { line, column } = token.position;
  throw refusal(token, `Unknown token: ${line}:${column} ${token.type} ${token.text}`);
}

function parseBlock(reader: Reader, { position }: Token): Block {
  const items = parseItems(reader, true);
  const closing = reader.scan();
  if (closing.type === "RBRACE") return { kind: "block", items, position };
  throw refusal(closing, `object expected closing RBRACE got: ${closing.type}`);
}

function parseList(reader: Reader, { position }: Token): List {
  const items: Node[] = [];
  let needsComma = false;
  for (;;) {
    const token = reader.scan();
    if (needsComma && token.type !== "COMMA" && token.type !== "RBRACK") {
      throw refusal(token, `error parsing list, expected comma or list end, got: ${token.type}`);
    }
    if (token.type === "RBRACK") return { kind: "list", items, position };
    if (token.type === "COMMA") {
      withLookAhead(reader, undefined);
      needsComma = false;
      continue;
    }
    items.push(parseElement(reader, token));
    // Behind an inner list HCL needs no comma.
    needsComma = token.type !== "LBRACK";
  }
}

function parseElement(reader: Reader, token: Token): Node {
  const literal = literalOf(token);
  if (literal) return literal;
  if (token.type !== "LBRACE" && token.type !== "LBRACK") {
    throw refusal(token, `unexpected token while parsing list: ${token.type}`);
  }
  const isBlock = token.type === "LBRACE";
  try {
    return isBlock ? parseBlock(reader, token) : parseList(reader, token);
  } catch (error) {
    if (!(error instanceof ConfigSyntaxError)) throw error;
    const what = isBlock ? "parse object within list" : "parse list within list";
    throw refusal(token, `error while trying to ${what}: ${error.message}`);
  }
}

const kinds: Partial<Record<TokenType, Literal["kind"]>> = {
  BOOL: "boolean",
  NUMBER: "integer",
  FLOAT: "float",
  STRING: "string",
  HEREDOC: "string",
};

function literalOf(token: Token): Literal | undefined {
  const kind = kinds[token.type];
  if (!kind) return undefined;
  return { kind, text: literalText(token), position: token.position };
}

function literalText(token: Token): string {
  if (token.type === "STRING") return stringOf(token, unquoteHcl);
  if (token.type === "HEREDOC") return heredocText(token.text);
  return token.text;
}

/** @throws ConfigSyntaxError for escapes that make no sense. */
function stringOf({ text, position }: Token, unquote: (token: string) => string): string {
  try {
    return unquote(text);
  } catch (error) {
    if (!(error instanceof EscapeError)) throw error;
    throw new ConfigSyntaxError(position, `illegal string: ${error.message}`);
  }
}

const refusal = ({ position }: Token, reason: string) => new ConfigSyntaxError(position, reason);
