/** sprig's functions on lists, on what is empty, and the choice between values. */
import { atLeast, exactly, type GoFunction, withMust } from "./define.ts";
import { joinTexts, toText } from "./texts.ts";
import {
  asBool,
  asInt,
  asList,
  asText,
  equals,
  failed,
  isList,
  isStruct,
  isTrue,
  sortTexts,
  typeOf,
  type Value,
} from "./values.ts";

/** Of a list, its texts; of anything else, itself as a text. */
function textsOf(value: Value): string[] {
  if (value === undefined) return [];
  if (value instanceof Uint8Array) return [...value].map(String);
  return isList(value) ? value.filter((part) => part !== undefined).map(toText) : [toText(value)];
}

const isEmpty = (value: Value): boolean => !isStruct(value) && !isTrue(value);

function sliceOf(list: readonly Value[], start: number, end: number): Value {
  if (list.length === 0) return undefined;
  if (start < 0 || end > list.length || start > end) throw failed("slice index out of bounds");
  return list.slice(start, end);
}

function chunk(size: number, list: readonly Value[]): Value {
  if (size < 1) throw failed("chunk size must be above 0");
  const count = Math.ceil(list.length / size);
  return Array.from({ length: count }, (_, at) => list.slice(at * size, (at + 1) * size));
}

/** Numbers from one to another, both included, in a text. */
function sequence(numbers: readonly number[]): string {
  const [first = 0, second = 0, third = 0] = numbers;
  if (numbers.length === 0 || numbers.length > 3) return "";
  const [start, end] = numbers.length === 1 ? [1, first] : [first, numbers.length === 2 ? second : third];
  const step = numbers.length === 3 ? second : end < start ? -1 : 1;
  if (step === 0 || end < start !== step < 0) return "";
  const count = Math.floor((end - start) / step) + 1;
  if (count > 100_000) throw failed("seq counts too far");
  return Array.from({ length: count }, (_, at) => start + at * step).join(" ");
}

const on = (name: string, compute: (list: readonly Value[]) => Value): GoFunction =>
  exactly(1, ([value]) => compute(asList(value, `Cannot ${name}`)));

/** Comparing each with each would take time that grows with the square of what a node's certificate names. */
function uniq(list: readonly Value[]): readonly Value[] {
  const simple = new Set<Value>();
  const others: Value[] = [];
  return list.filter((value) => {
    const isSimple = typeof value !== "object" && !Number.isNaN(value);
    if (isSimple ? simple.has(value) : others.some((other) => equals(other, value))) return false;
    if (isSimple) simple.add(value);
    else if (others.push(value) > mostCompared) throw failed("uniq has too many values to compare");
    return true;
  });
}

/** Values with parts of their own, such as lists and maps. */
const mostCompared = 1_000;

const without = (list: readonly Value[], unwanted: readonly Value[]): readonly Value[] =>
  list.filter((value) => !unwanted.some((other) => equals(other, value)));

const append: GoFunction = exactly(2, ([list, value]) => [...asList(list, "Cannot push"), value]);

const slice = atLeast(1, ([value, ...bounds]) => {
  const list = asList(value, "Cannot slice");
  const [start = 0, end = list.length] = bounds.map(toInteger);
  return sliceOf(list, start, end);
});

/** sprig takes anything for a number here, and what is none for 0. */
function toInteger(value: Value): number {
  if (typeof value === "string") return /^[+-]?\d+$/.test(value) ? Number(value) : 0;
  const isNumber = typeof value === "bigint" || typeof value === "number" || typeof value === "boolean";
  return isNumber ? Math.trunc(Number(value)) : 0;
}

const list: GoFunction = atLeast(0, (values) => values);

export const listFunctions: Readonly<Record<string, GoFunction>> = {
  ...withMust({
    append,
    push: append,
    prepend: exactly(2, ([value, first]) => [first, ...asList(value, "Cannot prepend")]),
    first: on("find first", (values) => values[0]),
    last: on("find last", (values) => values.at(-1)),
    rest: on("find rest", (values) => values.slice(1)),
    initial: on("find initial", (values) => values.slice(0, -1)),
    reverse: on("find reverse", (values) => values.toReversed()),
    compact: on("compact", (values) => values.filter((value) => !isEmpty(value))),
    uniq: on("find uniq", uniq),
    without: atLeast(1, ([value, ...unwanted]) => without(asList(value, "Cannot find without"), unwanted)),
    has: exactly(2, ([wanted, value]) =>
      value === undefined ? false : asList(value, "Cannot find has").some((other) => equals(other, wanted)),
    ),
    slice,
    chunk: exactly(2, ([size, value]) => chunk(asInt(size), asList(value, "Cannot chunk"))),
  }),
  list,
  tuple: list,
  concat: atLeast(0, (values) => values.flatMap((value) => asList(value, "Cannot concat"))),
  splitList: exactly(2, ([separator, text]) => splitText(asText(separator), asText(text))),
  toStrings: exactly(1, ([value]) => textsOf(value)),
  join: exactly(2, ([separator, value]) => joinTexts(textsOf(value), asText(separator))),
  sortAlpha: exactly(1, ([value]) => sortTexts(value === undefined ? [toText(value)] : textsOf(value))),
  seq: atLeast(0, (values) => sequence(values.map(asInt))),
  default: atLeast(1, ([initial, given]) => (isEmpty(given) ? initial : given)),
  empty: exactly(1, ([value]) => isEmpty(value)),
  coalesce: atLeast(0, (values) => values.find((value) => !isEmpty(value))),
  all: atLeast(0, (values) => !values.some(isEmpty)),
  any: atLeast(0, (values) => values.some((value) => !isEmpty(value))),
  ternary: exactly(3, ([met, unmet, condition]) => {
    if (condition === undefined) throw failed(`invalid value; expected bool; got ${typeOf(condition)}`);
    return asBool(condition) ? met : unmet;
  }),
};

/** Go splits by nothing into characters, not into half ones. */
const splitText = (separator: string, text: string): readonly string[] =>
  separator === "" ? [...text] : text.split(separator);
