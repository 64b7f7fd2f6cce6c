/** The tokens of Go's text/template language: text between actions, and what stands inside of them. */
import { invalidArgument, type SpireError } from "../errors.ts";
import { quote } from "../go-text.ts";

export type Token =
  /** Such as `|`, `:=`, `(`. */
  | { readonly kind: "symbol"; readonly text: string; readonly isSpaced: boolean; readonly line: number }
  | { readonly kind: "word"; readonly text: string; readonly isSpaced: boolean; readonly line: number }
  /** `.name`, or a `.` alone with the empty name. */
  | { readonly kind: "field"; readonly text: string; readonly isSpaced: boolean; readonly line: number }
  /** `$name`, or `$` alone. */
  | { readonly kind: "variable"; readonly text: string; readonly isSpaced: boolean; readonly line: number }
  | { readonly kind: "string"; readonly value: string; readonly isSpaced: boolean; readonly line: number }
  /** Integers are bigint, other numbers number. */
  | {
      readonly kind: "number";
      readonly value: bigint | number;
      readonly isSpaced: boolean;
      readonly line: number;
    };

/** Template text, or one action without its delimiters. */
export type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "action"; readonly tokens: readonly Token[]; readonly line: number };

/** @returns INVALID_ARGUMENT with the line, which begins at 1. */
export const syntaxError = (line: number, message: string): SpireError =>
  invalidArgument(line === 1 ? message : `line ${line}: ${message}`);

const lineAt = (text: string, offset: number): number => text.slice(0, offset).split("\n").length;

/** @throws SpireError INVALID_ARGUMENT for an action that does not end or holds what is no token. */
export function splitTemplate(template: string): readonly Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  let trimNext = false;
  for (;;) {
    const open = template.indexOf("{{", at);
    const text = template.slice(at, open < 0 ? template.length : open);
    const trimsBefore = open >= 0 && /^\{\{-[ \t\r\n]/.test(template.slice(open, open + 4));
    pieces.push({ kind: "text", text: trimText(text, trimNext, trimsBefore) });
    if (open < 0) return pieces;
    const { action, end, trimsAfter } = readAction(template, open + (trimsBefore ? 4 : 2));
    if (action) pieces.push(action);
    at = end;
    trimNext = trimsAfter;
  }
}

function trimText(text: string, left: boolean, right: boolean): string {
  const trimmed = left ? text.replace(/^[ \t\r\n]+/, "") : text;
  return right ? trimmed.replace(/[ \t\r\n]+$/, "") : trimmed;
}

interface ReadAction {
  /** Undefined for a comment. */
  readonly action: Piece | undefined;
  readonly end: number;
  readonly trimsAfter: boolean;
}

function readAction(template: string, start: number): ReadAction {
  const line = lineAt(template, start);
  if (template.startsWith("/*", start)) return readComment(template, start);
  const tokens: Token[] = [];
  let at = start;
  for (;;) {
    const [space = ""] = /^[ \t\r\n]*/.exec(template.slice(at, at + 1_000)) ?? [];
    at += space.length;
    if (template.startsWith("}}", at)) {
      return { action: { kind: "action", tokens, line }, end: at + 2, trimsAfter: false };
    }
    if (space !== "" && template.startsWith("-}}", at)) {
      return { action: { kind: "action", tokens, line }, end: at + 3, trimsAfter: true };
    }
    if (at >= template.length) throw syntaxError(line, "unclosed action");
    const { token, length } = readToken(template, at, space !== "");
    tokens.push(token);
    at += length;
  }
}

function readComment(template: string, start: number): ReadAction {
  const line = lineAt(template, start);
  const close = template.indexOf("*/", start);
  if (close < 0) throw syntaxError(line, "unclosed comment");
  const [end] = /^(?:\}\}|[ \t\r\n]-\}\})/.exec(template.slice(close + 2)) ?? [];
  if (end === undefined) throw syntaxError(line, "comment ends before closing delimiter");
  return { action: undefined, end: close + 2 + end.length, trimsAfter: end !== "}}" };
}

const symbols = /^(?::=|[=|(),])/;
const word = /^[\p{L}_][\p{L}\p{Nd}_]*/u;
const field = /^\.(?:[\p{L}_][\p{L}\p{Nd}_]*)?/u;
const variable = /^\$(?:[\p{L}_\p{Nd}]+)?/u;
const number =
  /^[+-]?(?:0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/;
const quoted = /^"(?:[^"\\\n]|\\[^\n])*"/;
const raw = /^`[^`]*`/;
const character = /^'(?:[^'\\\n]|\\[^\n])+'/;

/** What may stand behind an operand without a space. */
const terminators = /^(?:[ \t\r\n|()=,.]|:=|\}\}|$)/;

function readToken(
  template: string,
  at: number,
  isSpaced: boolean,
): { readonly token: Token; readonly length: number } {
  const rest = template.slice(at);
  const line = lineAt(template, at);
  const take = (pattern: RegExp): string | undefined => pattern.exec(rest)?.[0];
  const done = (text: string, token: Token) => {
    const isOperand = token.kind !== "symbol" && token.kind !== "string" && text !== ".";
    if (isOperand && !terminators.test(rest.slice(text.length))) {
      throw syntaxError(line, `bad character ${quote(rest.slice(0, text.length + 1))}`);
    }
    return { token, length: text.length };
  };
  const common = { isSpaced, line };

  const numeral = take(number);
  if (numeral !== undefined)
    return done(numeral, { kind: "number", value: readNumber(numeral, line), ...common });
  for (const [kind, pattern] of [
    ["symbol", symbols],
    ["word", word],
    ["field", field],
    ["variable", variable],
  ] as const) {
    const text = take(pattern);
    if (text !== undefined)
      return done(text, {
        kind,
        text: kind === "field" || kind === "variable" ? text.slice(1) : text,
        ...common,
      });
  }
  const text = take(quoted);
  if (text !== undefined) return done(text, { kind: "string", value: unquote(text, line), ...common });
  const plain = take(raw);
  if (plain !== undefined) return done(plain, { kind: "string", value: plain.slice(1, -1), ...common });
  const single = take(character);
  if (single !== undefined) {
    const [point, ...more] = [...unquote(single, line)];
    if (point === undefined || more.length > 0)
      throw syntaxError(line, `malformed character constant: ${single}`);
    return done(single, { kind: "number", value: BigInt(point.codePointAt(0) ?? 0), ...common });
  }
  if (/^["'`]/.test(rest)) throw syntaxError(line, "unterminated quoted string");
  throw syntaxError(line, `unexpected ${quote(rest.slice(0, 1))} in action`);
}

function readNumber(text: string, line: number): bigint | number {
  const sign = text.startsWith("-") ? -1n : 1n;
  const digits = text.replace(/^[+-]/, "").replaceAll("_", "");
  try {
    if (/^0[xXbBoO]/.test(digits)) return sign * BigInt(digits.toLowerCase());
    if (/^0\d+$/.test(digits)) return sign * BigInt(`0o${digits}`);
    if (/^\d+$/.test(digits)) return sign * BigInt(digits);
  } catch {
    throw syntaxError(line, `bad number syntax: ${quote(text)}`);
  }
  return Number(sign) * Number(digits);
}

const escapes: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
  "'": "'",
};

/** Go's escapes, without the quotes. */
function unquote(text: string, line: number): string {
  const own = text.slice(0, 1);
  return text
    .slice(1, -1)
    .replace(/\\(x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{3}|.)/gs, (_, sequence) => {
      const code = /^[xuU]./.test(sequence)
        ? Number.parseInt(sequence.slice(1), 16)
        : /^[0-7]{3}$/.test(sequence)
          ? Number.parseInt(sequence, 8)
          : undefined;
      if (code !== undefined && code <= 0x10ffff) return String.fromCodePoint(code);
      const known = escapes[sequence];
      const isOther = (sequence === '"' || sequence === "'") && sequence !== own;
      if (known === undefined || isOther) throw syntaxError(line, `invalid syntax in ${text}`);
      return known;
    });
}
