/** The values that templates compute with: Go's, as far as text/template and its functions tell them apart. */
import { invalidArgument, type SpireError } from "../errors.ts";
import { quote } from "../go-text.ts";

/** `undefined` is nil, bigint an integer, number a float. */
export type Value =
  | undefined
  | boolean
  | bigint
  | number
  | string
  | Uint8Array
  | readonly Value[]
  | GoMap
  | GoStruct;

/** A map by strings. */
export interface GoMap {
  readonly kind: "map";
  readonly entries: Map<string, Value>;
  /** What a key that isn't there gives by `index`. */
  readonly zero: "" | undefined;
}

export type Method = (...args: readonly Value[]) => Value;

/** A value with fields and methods. */
export interface GoStruct {
  readonly kind: "struct";
  /** For messages, as Go names it. */
  readonly type: string;
  readonly fields: Readonly<Record<string, Value | Method>>;
  /** How it is printed; without, it can't be. */
  readonly text?: string;
  /** What `%d` and `%x` print. */
  readonly integer?: bigint;
}

export const goMap = (entries: Iterable<readonly [string, Value]> = []): GoMap => ({
  kind: "map",
  entries: new Map(entries),
  zero: undefined,
});

/** Go's `map[string]string`. */
export const stringMap = (entries: Iterable<readonly [string, string]>): GoMap => ({
  kind: "map",
  entries: new Map(entries),
  zero: "",
});

/** What goes wrong while a template is filled. */
export const failed = (message: string): SpireError => invalidArgument(message);

export const isList = (value: Value): value is readonly Value[] => Array.isArray(value);
export const isMap = (value: Value): value is GoMap =>
  typeof value === "object" && "kind" in value && value.kind === "map";
export const isStruct = (value: Value): value is GoStruct =>
  typeof value === "object" && "kind" in value && value.kind === "struct";

/** Name of a value's type, for messages. */
export function typeOf(value: Value): string {
  if (value === undefined) return "nil";
  if (typeof value === "bigint") return "int";
  if (typeof value === "number") return "float64";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "string") return "string";
  if (value instanceof Uint8Array) return "[]uint8";
  if (isList(value)) return "[]interface {}";
  if (isStruct(value)) return value.type;
  return value.zero === "" ? "map[string]string" : "map[string]interface {}";
}

const wrongType = (expected: string, value: Value): SpireError =>
  failed(
    value === undefined
      ? `invalid value; expected ${expected}`
      : `wrong type for value; expected ${expected}; got ${typeOf(value)}`,
  );

export function asText(value: Value): string {
  if (typeof value === "string") return value;
  throw wrongType("string", value);
}

/** A count or position; a literal such as `3.0` is one, too. */
export function asInt(value: Value): number {
  if (typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value)))
    return Number(value);
  throw wrongType("int", value);
}

export function asBool(value: Value): boolean {
  if (typeof value === "boolean") return value;
  throw wrongType("bool", value);
}

export function asMap(value: Value): GoMap {
  if (isMap(value)) return value;
  throw wrongType("map[string]interface {}", value);
}

/** @param what begins the message, such as `cannot reverse`. */
export function asList(value: Value, what: string): readonly Value[] {
  if (value instanceof Uint8Array) return [...value].map(BigInt);
  if (isList(value)) return value;
  throw failed(`${what} on type ${typeOf(value)}`);
}

/** Whether `if` takes it for true. */
export function isTrue(value: Value): boolean {
  if (value === undefined || typeof value === "boolean") return value === true;
  if (typeof value === "bigint" || typeof value === "number") return Number(value) !== 0;
  if (typeof value === "string" || value instanceof Uint8Array || isList(value)) return value.length > 0;
  return isStruct(value) || value.entries.size > 0;
}

/** As Go's `%v`. */
export function format(value: Value): string {
  switch (typeof value) {
    case "undefined":
      return "<nil>";
    case "string":
      return value;
    case "number":
      return formatFloat(value);
    case "boolean":
    case "bigint":
      return String(value);
  }
  if (value instanceof Uint8Array) return `[${value.join(" ")}]`;
  if (isList(value)) return `[${value.map(format).join(" ")}]`;
  if (isMap(value)) {
    return `map[${sortedKeys(value)
      .map((key) => `${key}:${format(value.entries.get(key))}`)
      .join(" ")}]`;
  }
  if (value.text === undefined) throw failed(`a value of type ${value.type} can't be printed`);
  return value.text;
}

/** As what stands alone in an action is printed. */
export const print = (value: Value): string => (value === undefined ? "<no value>" : format(value));

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** In the order of their bytes, as Go compares strings. */
export const sortTexts = (texts: Iterable<string>): string[] => [...texts].sort(byBytes);

export const sortedKeys = ({ entries }: GoMap): string[] => sortTexts(entries.keys());

/** As Go's `%v` of a float64. */
function formatFloat(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  if (Object.is(value, -0)) return "-0";
  const [mantissa = "", exponent = "0"] = value.toExponential().split("e");
  const power = Number(exponent);
  if (value === 0 || (power >= -4 && power < 6)) return decimal(value);
  return `${mantissa}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** JavaScript writes numbers below 1e-6 with an exponent. */
const decimal = (value: number): string =>
  Math.abs(value) < 1e-6 && value !== 0 ? value.toFixed(20).replace(/0+$/, "") : String(value);

/** Whether both are the same in depth; values of different types never are. */
export function equals(a: Value, b: Value): boolean {
  if (isList(a) && isList(b)) return a.length === b.length && a.every((part, at) => equals(part, b[at]));
  if (isMap(a) && isMap(b)) {
    const keys = [...a.entries.keys()];
    return (
      a.entries.size === b.entries.size &&
      keys.every((key) => b.entries.has(key) && equals(a.entries.get(key), b.entries.get(key)))
    );
  }
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  return a === b;
}

type Comparable = boolean | bigint | number | string;

const isComparable = (value: Value): value is Comparable => typeof value !== "object" && value !== undefined;

/** `eq`: basic types only, and of one kind. */
export function areEqual(a: Value, b: Value): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (!isComparable(a)) throw failed(`non-comparable type ${quote(typeOf(a))}`);
  if (!isComparable(b)) throw failed(`non-comparable type ${quote(typeOf(b))}`);
  if (typeof a !== typeof b) throw failed("incompatible types for comparison");
  return a === b;
}

/** `lt`: numbers and texts, of one kind. */
export function isLess(a: Value, b: Value): boolean {
  if (typeof a === "string" && typeof b === "string") return byBytes(a, b) < 0;
  if (typeof a === "bigint" && typeof b === "bigint") return a < b;
  if (typeof a === "number" && typeof b === "number") return a < b;
  throw failed(typeOf(a) === typeOf(b) ? "invalid type for comparison" : "incompatible types for comparison");
}
