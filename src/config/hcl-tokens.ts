/** HCL text > tokens, by the rules of HCL 1. */
import { type Characters, createCharacters, end } from "./characters.ts";
import { ConfigSyntaxError, type Position } from "./tree.ts";

export type TokenType =
  | "ILLEGAL"
  | "EOF"
  | "COMMENT"
  | "IDENT"
  | "NUMBER"
  | "FLOAT"
  | "BOOL"
  | "STRING"
  | "HEREDOC"
  | "LBRACK"
  | "LBRACE"
  | "COMMA"
  | "PERIOD"
  | "RBRACK"
  | "RBRACE"
  | "ASSIGN"
  | "ADD"
  | "SUB";

export interface Token {
  readonly type: TokenType;
  /** As it is written. */
  readonly text: string;
  readonly position: Position;
}

export interface Tokens {
  /** The next token; EOF after the last, however often. */
  scan(): Token;
  /** What was wrong with a token so far: the first of it, since the rest may follow from that. */
  complaint(): ConfigSyntaxError | undefined;
}

const isLetter = (character: string) => /^[A-Za-z_\p{L}]$/u.test(character);
const isDigit = (character: string) => /^\p{Nd}$/u.test(character);
const isDecimal = (character: string) => character >= "0" && character <= "9";
const isHexadecimal = (character: string) => /^[\dA-Fa-f]$/.test(character);
const isSpace = (character: string) => [" ", "\t", "\n", "\r"].includes(character);

const punctuation: Readonly<Record<string, TokenType>> = {
  "[": "LBRACK",
  "]": "RBRACK",
  "{": "LBRACE",
  "}": "RBRACE",
  ",": "COMMA",
  "=": "ASSIGN",
  "+": "ADD",
};

/** A reader of one kind of token; it starts behind the token's first character. */
type Reader = (characters: Characters, complain: (reason: string) => void) => TokenType;

export function createTokens(text: string): Tokens {
  let complaint: ConfigSyntaxError | undefined;
  const complain = (reason: string) => {
    complaint ??= new ConfigSyntaxError(characters.position(), reason);
  };
  const characters = createCharacters(text, complain);
  return {
    scan() {
      let start = characters.offset();
      let first = characters.next();
      while (isSpace(first)) {
        start = characters.offset();
        first = characters.next();
      }
      const position = characters.position();
      const type = readerOf(first)(characters, complain);
      return { type, text: characters.slice(start, characters.offset()), position };
    },
    complaint: () => complaint,
  };
}

function readerOf(first: string): Reader {
  if (isLetter(first)) return readIdentifier;
  if (isDecimal(first)) return (characters, complain) => readNumber(first, characters, complain);
  const single = punctuation[first];
  if (single) return () => single;
  if (first === "#" || first === "/")
    return (characters, complain) => readComment(first, characters, complain);
  return readers[first] ?? refuseCharacter;
}

const readers: Readonly<Record<string, Reader>> = {
  [end]: () => "EOF",
  '"': readString,
  ".": readPeriod,
  "<": readHeredoc,
  "-": readMinus,
};

function refuseCharacter(_: Characters, complain: (reason: string) => void): TokenType {
  complain("illegal char");
  return "ILLEGAL";
}

function readIdentifier(characters: Characters): TokenType {
  const start = characters.offset() - 1;
  let character = characters.next();
  while (isLetter(character) || isDigit(character) || character === "-" || character === ".") {
    character = characters.next();
  }
  stepBack(characters, character);
  const text = characters.slice(start, characters.offset());
  return text === "true" || text === "false" ? "BOOL" : "IDENT";
}

function readComment(first: string, characters: Characters, complain: (reason: string) => void): TokenType {
  if (first === "/" && characters.peek() === "*") return readBlockComment(characters, complain);
  if (first === "/" && characters.peek() !== "/") {
    complain("expected '/' for comment");
    return "COMMENT";
  }
  let character = characters.next();
  while (character !== "\n" && character !== end) character = characters.next();
  stepBack(characters, character);
  return "COMMENT";
}

function readBlockComment(characters: Characters, complain: (reason: string) => void): TokenType {
  characters.next();
  let character = characters.next();
  while (character !== end) {
    const previous = character;
    character = characters.next();
    if (previous === "*" && character === "/") return "COMMENT";
  }
  complain("comment not terminated");
  return "COMMENT";
}

function readPeriod(characters: Characters): TokenType {
  const following = characters.peek();
  if (!isDecimal(following)) return "PERIOD";
  readExponent(readDigits(following, characters), characters);
  return "FLOAT";
}

function readMinus(characters: Characters, complain: (reason: string) => void): TokenType {
  if (!isDecimal(characters.peek())) return "SUB";
  return readNumber(characters.next(), characters, complain);
}

function readNumber(first: string, characters: Characters, complain: (reason: string) => void): TokenType {
  if (first === "0") return readAfterZero(characters, complain);
  readDigits(first, characters);
  return readAfterDigits(characters.next(), characters);
}

/** Hexadecimal, octal, or a fraction. */
function readAfterZero(characters: Characters, complain: (reason: string) => void): TokenType {
  let character = characters.next();
  if (character === "x" || character === "X") {
    character = characters.next();
    if (!isHexadecimal(character)) complain("illegal hexadecimal number");
    while (isHexadecimal(character)) character = characters.next();
    stepBack(characters, character);
    return "NUMBER";
  }
  let octal = true;
  while (isDecimal(character)) {
    character = characters.next();
    if (character === "8" || character === "9") octal = false;
  }
  const isFraction = [".", "e", "E"].includes(character);
  if (!octal && !isFraction) complain("illegal octal number");
  return readAfterDigits(character, characters);
}

/** @param character what followed the digits, already read. */
function readAfterDigits(character: string, characters: Characters): TokenType {
  if (isExponent(character)) {
    readExponent(character, characters);
    return "FLOAT";
  }
  if (character === ".") {
    const following = readDigits(characters.peek(), characters);
    if (isExponent(following)) readExponent(characters.next(), characters);
    return "FLOAT";
  }
  stepBack(characters, character);
  return "NUMBER";
}

/** @returns the character after the digits; it is unread again if there was any digit. */
function readDigits(first: string, characters: Characters): string {
  let character = first;
  while (isDecimal(character)) character = characters.next();
  if (isDecimal(first)) stepBack(characters, character);
  return character;
}

const isExponent = (character: string) => character === "e" || character === "E";

function readExponent(character: string, characters: Characters): void {
  if (!isExponent(character)) return;
  const next = characters.next();
  readDigits(next === "-" || next === "+" ? characters.next() : next, characters);
}

/** Quotes within `${…}` don't end the string, and line ends are allowed there. */
function readString(characters: Characters, complain: (reason: string) => void): TokenType {
  let braces = 0;
  for (;;) {
    const character = characters.next();
    if (character === end || (character === "\n" && braces === 0)) {
      complain("literal not terminated");
      return "STRING";
    }
    if (character === '"' && braces === 0) return "STRING";
    if (braces === 0 && character === "$" && characters.peek() === "{") {
      braces += 1;
      characters.next();
    } else if (braces > 0 && character === "{") braces += 1;
    if (braces > 0 && character === "}") braces -= 1;
    if (character === "\\") checkEscape(characters, complain);
  }
}

/** Letters that take digits behind them: how many, and of which base. */
const numericEscapes: Readonly<Record<string, readonly [count: number, base: number]>> = {
  x: [2, 16],
  u: [4, 16],
  U: [8, 16],
};

function checkEscape(characters: Characters, complain: (reason: string) => void): void {
  const character = characters.next();
  if ('abfnrtv\\"'.includes(character)) return;
  const numeric = numericEscapes[character];
  if (numeric) checkDigits(characters.next(), ...numeric, characters, complain);
  else if (/^[0-7]$/.test(character)) checkDigits(character, 3, 8, characters, complain);
  else complain("illegal char escape");
}

function checkDigits(
  first: string,
  count: number,
  base: number,
  characters: Characters,
  complain: (reason: string) => void,
): void {
  let character = first;
  let missing = count;
  while (missing > 0 && Number.parseInt(character, 16) < base) {
    character = characters.next();
    if (character === end) break;
    missing -= 1;
  }
  if (missing > 0) complain("illegal char escape");
  if (missing !== count) stepBack(characters, character);
}

function readHeredoc(characters: Characters, complain: (reason: string) => void): TokenType {
  if (characters.next() !== "<") {
    complain("heredoc expected second '<', didn't see it");
    return "HEREDOC";
  }
  const start = characters.offset();
  let character = characters.next();
  if (character === "-") character = characters.next();
  while (isLetter(character) || isDigit(character)) character = characters.next();
  if (character === end) {
    complain("heredoc not terminated");
    return "HEREDOC";
  }
  if (character === "\r" && characters.peek() === "\n") character = characters.next();
  if (character !== "\n") {
    complain("invalid characters in heredoc anchor");
    return "HEREDOC";
  }
  const anchor = characters.slice(start, characters.offset() - 1);
  if (anchor === "" || anchor === "-") complain("zero-length heredoc anchor");
  else skipHeredoc(anchor, characters, complain);
  return "HEREDOC";
}

/** Reads on behind the line that holds the anchor alone. */
function skipHeredoc(anchor: string, characters: Characters, complain: (reason: string) => void): void {
  const name = anchor.replace(/^-/, "");
  const last = new RegExp(`^[ \\t\\r\\v\\f]*${name}\\r*$`);
  const shortest = Buffer.byteLength(anchor);
  let line = "";
  for (;;) {
    const character = characters.next();
    if (character === end) {
      complain("heredoc not terminated");
      return;
    }
    if (character === "\n") {
      if (Buffer.byteLength(line) >= shortest && last.test(line)) return;
      line = "";
    } else line += character;
  }
}

/** Nothing is read at the end, so nothing can be unread. */
function stepBack(characters: Characters, character: string): void {
  if (character !== end) characters.back();
}
