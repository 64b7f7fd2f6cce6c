/** The functions that every text/template has. */
import { atLeast, exactly, type GoFunction } from "./define.ts";
import { formatText } from "./printf.ts";
import {
  areEqual,
  asText,
  failed,
  format,
  isLess,
  isList,
  isMap,
  isTrue,
  typeOf,
  type Value,
} from "./values.ts";

const isText = (value: Value): boolean => typeof value === "string";

/** Go's Sprint: a space between two operands when neither is a text. */
function sprint(values: readonly Value[]): string {
  let text = "";
  for (const [at, value] of values.entries()) {
    if (at > 0 && !isText(value) && !isText(values[at - 1])) text += " ";
    text += format(value);
  }
  return text;
}

const escaped = (replacements: Readonly<Record<string, string>>): GoFunction =>
  atLeast(0, (values) => {
    const [first] = values;
    const text = values.length === 1 && typeof first === "string" ? first : sprint(values);
    return [...text].map((character) => replacements[character] ?? character).join("");
  });

const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, "0");

/** Go's url.QueryEscape. */
const queryEscape = (text: string): string =>
  [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      if (/[A-Za-z0-9_.~-]/.test(character)) return character;
      return character === " " ? "+" : `%${hex(byte)}`;
    })
    .join("");

function lengthOf(value: Value): bigint {
  if (typeof value === "string") return BigInt(Buffer.byteLength(value));
  if (value instanceof Uint8Array || isList(value)) return BigInt(value.length);
  if (isMap(value)) return BigInt(value.entries.size);
  throw failed(value === undefined ? "len of nil pointer" : `len of type ${typeOf(value)}`);
}

function elementAt(value: Value, key: Value): Value {
  if (isMap(value)) {
    const name = asText(key);
    return value.entries.has(name) ? value.entries.get(name) : value.zero;
  }
  const isIndexable = typeof value === "string" || value instanceof Uint8Array || isList(value);
  if (!isIndexable) {
    throw failed(value === undefined ? "index of untyped nil" : `can't index item of type ${typeOf(value)}`);
  }
  if (typeof key !== "bigint") throw failed(`cannot index slice/array with type ${typeOf(key)}`);
  const list: readonly Value[] = isList(value) ? value : [...Buffer.from(value)].map(BigInt);
  if (key < 0n || key >= list.length) throw failed(`index out of range: ${key}`);
  return list[Number(key)];
}

export const builtins: Readonly<Record<string, GoFunction>> = {
  not: exactly(1, ([value]) => !isTrue(value)),
  eq: atLeast(1, ([first, ...others]) => {
    if (others.length === 0) throw failed("missing argument for comparison");
    return others.some((other) => areEqual(first, other));
  }),
  ne: exactly(2, ([a, b]) => !areEqual(a, b)),
  lt: exactly(2, ([a, b]) => isLess(a, b)),
  le: exactly(2, ([a, b]) => isLess(a, b) || areEqual(a, b)),
  gt: exactly(2, ([a, b]) => isLess(b, a)),
  ge: exactly(2, ([a, b]) => isLess(b, a) || areEqual(a, b)),
  len: exactly(1, ([value]) => lengthOf(value)),
  index: atLeast(1, ([value, ...keys]) => keys.reduce(elementAt, value)),
  print: atLeast(0, sprint),
  println: atLeast(0, (values) => `${values.map(format).join(" ")}\n`),
  printf: atLeast(1, ([pattern, ...values]) => formatText(asText(pattern), values)),
  html: escaped({ "\0": "\uFFFD", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;" }),
  js: escaped({
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
    "\n": "\\u000A",
    "\r": "\\u000D",
    "\t": "\\u0009",
  }),
  urlquery: atLeast(0, (values) => {
    const [first] = values;
    return queryEscape(values.length === 1 && typeof first === "string" ? first : sprint(values));
  }),
  call: atLeast(1, ([value]) => {
    throw failed(`non-function of type ${typeOf(value)}`);
  }),
};
