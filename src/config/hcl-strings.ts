/** What quoted strings and heredocs of HCL 1 stand for. */

/** A string whose escapes make no sense. */
export class EscapeError extends Error {}

const letters: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  f: 12,
  n: 10,
  r: 13,
  t: 9,
  v: 11,
  "\\": 92,
  '"': 34,
};

/** One step of reading a string: an escape, a plain character. */
const part = /\\(?:x([\dA-Fa-f]{2})|u([\dA-Fa-f]{4})|U([\dA-Fa-f]{8})|([0-7]{3})|([abfnrtv\\"]))|[^\\"\n]/suy;

/**
 * The text of a string token, quotes included. What stands in `${…}` is kept as it is; `\x` and octal escapes are
 * bytes. @throws EscapeError.
 */
export function unquoteHcl(token: string): string {
  const text = inner(token);
  const bytes: Uint8Array[] = [];
  let at = 0;
  while (at < text.length) {
    if (text.startsWith("${", at)) {
      const stop = interpolationEnd(text, at + 2);
      bytes.push(Buffer.from(text.slice(at, stop)));
      at = stop;
      continue;
    }
    const [encoded, length] = readPart(text, at);
    bytes.push(encoded);
    at += length;
  }
  return Buffer.concat(bytes).toString("utf8");
}

/** As above, for strings of JSON input: `${` means nothing there. */
export function unquoteJson(token: string): string {
  const text = inner(token);
  const bytes: Uint8Array[] = [];
  for (let at = 0; at < text.length; ) {
    const [encoded, length] = readPart(text, at);
    if (/^\\u[dD][89a-fA-F]/.test(text.slice(at))) throw new EscapeError("half a character");
    bytes.push(encoded);
    at += length;
  }
  return Buffer.concat(bytes).toString("utf8");
}

function inner(token: string): string {
  if (token.length < 2 || !token.startsWith('"') || !token.endsWith('"')) throw new EscapeError("no quotes");
  return token.slice(1, -1);
}

/** The offset behind the brace that closes; inner ones nest. */
function interpolationEnd(text: string, start: number): number {
  let braces = 1;
  for (let at = start; at < text.length; at++) {
    const character = text[at];
    if (character === "\uFFFD") throw new EscapeError("no character");
    if (character === "{") braces += 1;
    if (character === "}") braces -= 1;
    if (braces === 0) return at + 1;
  }
  throw new EscapeError("a brace is missing");
}

function readPart(text: string, at: number): [encoded: Uint8Array, length: number] {
  part.lastIndex = at;
  const match = part.exec(text);
  if (!match) throw new EscapeError("no such escape");
  const [all, byte, short, long, octal, letter] = match;
  return [encode(all, { byte, codePoint: short ?? long, octal, letter }), all.length];
}

interface Escape {
  readonly byte: string | undefined;
  readonly codePoint: string | undefined;
  readonly octal: string | undefined;
  readonly letter: string | undefined;
}

function encode(all: string, { byte, codePoint, octal, letter }: Escape): Uint8Array {
  if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
  if (letter !== undefined) return Uint8Array.of(letters[letter] ?? 0);
  if (octal !== undefined) {
    const value = Number.parseInt(octal, 8);
    if (value > 255) throw new EscapeError("more than a byte");
    return Uint8Array.of(value);
  }
  if (codePoint === undefined) return Buffer.from(all);
  const value = Number.parseInt(codePoint, 16);
  if (value > 0x10ffff) throw new EscapeError("no character");
  return Buffer.from(String.fromCodePoint(value));
}

/**
 * The text of a heredoc token, from `<<` to its anchor's line. `<<-` takes the anchor's indentation off each line,
 * provided that all lines have it.
 */
export function heredocText(token: string): string {
  const [head = "", ...lines] = token.replace(/\n$/, "").split("\n");
  const anchorLine = lines.pop() ?? "";
  if (!head.startsWith("<<-")) return anchored(head, 2, lines, anchorLine);
  const name = head.slice(3);
  const indent = anchorLine.slice(0, anchorLine.length - name.length);
  if (![...lines].every((line) => line.startsWith(indent))) {
    return [...lines, ""].join("\n").replace(/[ \t]+$/, "");
  }
  return [...lines.map((line) => line.slice(indent.length)), ""].join("\n");
}

/** Without `-`, spaces before the anchor belong to the text. */
const anchored = (head: string, marker: number, lines: readonly string[], anchorLine: string): string =>
  [...lines, anchorLine.slice(0, anchorLine.length - head.slice(marker).length)].join("\n");
