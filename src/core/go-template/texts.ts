/** sprig's functions on texts. Positions and lengths count bytes, as in Go. */
import { quote } from "../go-text.ts";
import { atLeast, exactly, type GoFunction, ofText } from "./define.ts";
import { asInt, asText, failed, format, isStruct, type Value } from "./values.ts";
import { joinWords, pascalCase } from "./word-cases.ts";

/** Bytes; no agent's path is that long. */
const longest = 1_000_000;

/** Sizes count before the text is made: a node may choose all that is joined. */
export function joinTexts(texts: readonly string[], separator: string): string {
  const size = texts.reduce((sum, text) => sum + text.length + separator.length, 0);
  if (size > longest) throw failed("the joined text is too long");
  return texts.join(separator);
}

/** sprig's way to make a text of anything. */
export function toText(value: Value): string {
  if (value instanceof Uint8Array) return textOfBytes(value);
  if (isStruct(value) && value.text !== undefined) return value.text;
  return format(value);
}

/** A Go string may hold any bytes; here it is text. */
function textOfBytes(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw failed('bytes that are no text can only be written by printf "%x"');
  }
}

/** Characters whose other case is more than one stay as they are, as in Go. */
const convertEach = (text: string, convert: (character: string) => string): string =>
  [...text]
    .map((character) => {
      const converted = convert(character);
      return [...converted].length === 1 ? converted : character;
    })
    .join("");

const upper = (text: string): string => convertEach(text, (character) => character.toUpperCase());
const lower = (text: string): string => convertEach(text, (character) => character.toLowerCase());

const sizeOf = (text: string): number => Buffer.byteLength(text);

/** Bytes `start` up to `end`. A Go string may end within a character; here that is refused. */
function sliceBytes(text: string, start: number, end: number): string {
  const bytes = Buffer.from(text);
  if (start < 0 || end < start || end > bytes.length) throw failed("slice bounds out of range");
  for (const edge of [start, end]) {
    if (((bytes[edge] ?? 0) & 0xc0) === 0x80)
      throw failed(`text ${quote(text)} would be cut within a character`);
  }
  return bytes.subarray(start, end).toString("utf8");
}

function repeat(text: string, count: number): string {
  if (count < 0) throw failed("negative repeat count");
  if (sizeOf(text) * count > longest) throw failed("the repeated text is too long");
  return text.repeat(count);
}

function abbreviate(text: string, start: number, width: number): string {
  const size = sizeOf(text);
  if (size <= width) return text;
  let offset = Math.min(start, size);
  if (size - offset < width - 3) offset = size - (width - 3);
  if (offset <= 4) return `${sliceBytes(text, 0, width - 3)}...`;
  // The rest is itself abbreviated, unless all of it fits.
  if (offset + width - 3 < size) {
    const rest = sliceBytes(text, offset, size);
    return `...${width - 3 < 4 ? "" : abbreviate(rest, 0, width - 3)}`;
  }
  return `...${sliceBytes(text, size - (width - 3), size)}`;
}

function truncate(text: string, count: number): string {
  const size = sizeOf(text);
  if (count < 0) return size + count > 0 ? sliceBytes(text, size + count, size) : text;
  return size > count ? sliceBytes(text, 0, count) : text;
}

function substring(start: number, end: number, text: string): string {
  if (start < 0) return sliceBytes(text, 0, end);
  const size = sizeOf(text);
  return sliceBytes(text, start, end < 0 || end > size ? size : end);
}

/** A word begins behind what is neither letter nor digit nor underscore; outside of ASCII, behind a space. */
const wordStart = /(?<=^|[\0-/:-@[-^`{-\x7f\u0085\u00a0\p{Z}])\p{L}/gu;
const spacedWordStart = /(?<=^|[\t\n\v\f\r \u0085\u00a0\p{Z}])\p{L}/gu;
const isSpace = (character: string): boolean => /[\t\n\v\f\r \u0085\u00a0\p{Z}]/u.test(character);

const swapCase = (text: string): string =>
  [...text]
    .map((character) => {
      const small = lower(character);
      return character === small ? upper(character) : small;
    })
    .join("");

/** What sprig's library goutils takes for the characters of a text: its bytes. */
const bytesAsCharacters = (text: string): readonly string[] => [...Buffer.from(text).toString("latin1")];

/** The first character of each word. */
function initials(text: string): string {
  const characters = bytesAsCharacters(text);
  const isGap = (character: string | undefined) => character === undefined || isSpace(character);
  return characters.filter((character, at) => !isSpace(character) && isGap(characters[at - 1])).join("");
}

function withoutSpaces(text: string): string {
  const characters = bytesAsCharacters(text);
  const kept = characters.filter((character) => !isSpace(character));
  return kept.length === characters.length ? text : kept.join("");
}

interface Wrapping {
  readonly width: number;
  readonly newLine: string;
  readonly breaksWords: boolean;
}

function wrap(text: string, { width: asked, newLine, breaksWords }: Wrapping): string {
  const width = Math.max(1, asked);
  const bytes = Buffer.from(text);
  const piece = (start: number, end: number) => sliceBytes(text, start, end);
  let wrapped = "";
  let at = 0;
  while (bytes.length - at > width) {
    if (bytes[at] === 0x20) {
      at += 1;
      continue;
    }
    const space = bytes.subarray(at, at + width + 1).lastIndexOf(0x20) + at;
    if (space >= at) {
      wrapped += piece(at, space) + newLine;
      at = space + 1;
    } else if (breaksWords) {
      wrapped += piece(at, at + width) + newLine;
      at += width;
    } else {
      const end = bytes.indexOf(0x20, at + width);
      wrapped += end < 0 ? piece(at, bytes.length) : piece(at, end) + newLine;
      at = end < 0 ? bytes.length : end + 1;
    }
  }
  return wrapped + piece(at, bytes.length);
}

function trimSet(text: string, set: string): string {
  const characters = [...text];
  const unwanted = new Set(set);
  const start = characters.findIndex((character) => !unwanted.has(character));
  const end = characters.findLastIndex((character) => !unwanted.has(character));
  return start < 0 ? "" : characters.slice(start, end + 1).join("");
}

/** Not by a pattern for both ends: its time would grow with the square of a run of spaces in the middle. */
function trimSpace(text: string): string {
  const characters = [...text.replace(/^[\t\n\v\f\r \u0085\p{Z}]+/u, "")];
  return characters.slice(0, characters.findLastIndex((character) => !isSpace(character)) + 1).join("");
}

function indent(spaces: number, text: string): string {
  if (spaces < 0) throw failed("negative repeat count");
  if (spaces * text.length > longest) throw failed("the indented text is too long");
  const margin = " ".repeat(spaces);
  return margin + text.replaceAll("\n", `\n${margin}`);
}

/** An empty text stands before and behind each character. */
const replaceAll = (text: string, old: string, by: string): string =>
  joinTexts(old === "" ? ["", ...text, ""] : text.split(old), by);

const present = (values: readonly Value[]): readonly Value[] => values.filter((value) => value !== undefined);

/** A text and another one, which comes last so that it can be piped. */
const onText = (compute: (first: string, text: string) => Value): GoFunction =>
  exactly(2, ([first, text]) => compute(asText(first), asText(text)));

const withCount = (compute: (count: number, text: string) => Value): GoFunction =>
  exactly(2, ([count, text]) => compute(asInt(count), asText(text)));

export const textFunctions: Readonly<Record<string, GoFunction>> = {
  abbrev: withCount((width, text) => (width < 4 ? text : abbreviate(text, 0, width))),
  abbrevboth: exactly(3, ([left, right, text]) => {
    const [start, width] = [asInt(left), asInt(right)];
    const isMoot = width < 4 || (start > 0 && width < 7);
    return isMoot ? asText(text) : abbreviate(asText(text), start, width);
  }),
  trunc: withCount((count, text) => truncate(text, count)),
  trim: ofText(trimSpace),
  upper: ofText(upper),
  lower: ofText(lower),
  title: ofText((text) => text.replace(wordStart, upper)),
  untitle: ofText((text) => text.replace(spacedWordStart, lower)),
  substr: exactly(3, ([start, end, text]) => substring(asInt(start), asInt(end), asText(text))),
  repeat: withCount((count, text) => repeat(text, count)),
  trimAll: onText((set, text) => trimSet(text, set)),
  trimSuffix: onText((suffix, text) =>
    suffix !== "" && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text,
  ),
  trimPrefix: onText((prefix, text) => (text.startsWith(prefix) ? text.slice(prefix.length) : text)),
  nospace: ofText(withoutSpaces),
  initials: ofText(initials),
  swapcase: ofText(swapCase),
  snakecase: ofText((text) => joinWords(text, "_")),
  kebabcase: ofText((text) => joinWords(text, "-")),
  camelcase: ofText(pascalCase),
  wrap: withCount((width, text) => wrap(text, { width, newLine: "\n", breaksWords: false })),
  wrapWith: exactly(3, ([width, newLine, text]) =>
    wrap(asText(text), { width: asInt(width), newLine: asText(newLine) || "\n", breaksWords: true }),
  ),
  contains: onText((part, text) => text.includes(part)),
  hasPrefix: onText((prefix, text) => text.startsWith(prefix)),
  hasSuffix: onText((suffix, text) => text.endsWith(suffix)),
  quote: atLeast(0, (values) =>
    present(values)
      .map((value) => quote(toText(value)))
      .join(" "),
  ),
  squote: atLeast(0, (values) =>
    present(values)
      .map((value) => `'${format(value)}'`)
      .join(" "),
  ),
  cat: atLeast(0, (values) => present(values).map(format).join(" ")),
  indent: withCount(indent),
  nindent: withCount((spaces, text) => `\n${indent(spaces, text)}`),
  replace: exactly(3, ([old, replacement, text]) =>
    replaceAll(asText(text), asText(old), asText(replacement)),
  ),
  plural: exactly(3, ([one, many, count]) => (asInt(count) === 1 ? asText(one) : asText(many))),
  toString: exactly(1, ([value]) => toText(value)),
  fail: exactly(1, ([message]) => {
    throw failed(asText(message));
  }),
};
