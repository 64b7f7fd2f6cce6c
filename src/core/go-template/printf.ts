/** Go's Printf, for the verbs that texts and numbers are written with. */
import { quote } from "../go-text.ts";
import { asInt, failed, format, isList, isStruct, typeOf, type Value } from "./values.ts";

const directive = /%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d*))?([a-zA-Z%])/g;
const widest = 10_000;

interface Directive {
  readonly flags: string;
  readonly width: number | undefined;
  readonly precision: number | undefined;
  readonly verb: string;
}

/** @throws SpireError INVALID_ARGUMENT where Go would print `%!` and what is wrong. */
export function formatText(pattern: string, values: readonly Value[]): string {
  let used = 0;
  const take = (): Value => {
    if (used >= values.length) throw failed(`printf ${quote(pattern)} has too few arguments`);
    used += 1;
    return values[used - 1];
  };
  const size = (text: string | undefined): number | undefined => {
    if (text === undefined) return undefined;
    const number = text === "*" ? asInt(take()) : Number(text);
    if (Math.abs(number) > widest) throw failed(`printf ${quote(pattern)} asks for too much`);
    return number;
  };
  const rest = pattern.replace(directive, "");
  if (rest.includes("%")) throw failed(`printf ${quote(pattern)} has a directive that isn't supported`);
  const text = pattern.replace(
    directive,
    (_, flags: string, width?: string, precision?: string, verb = "") => {
      if (verb === "%") return "%";
      const sizes = { width: size(width), precision: size(precision) };
      return pad(formatOne(take(), { flags, verb, ...sizes }), { flags, verb, ...sizes });
    },
  );
  if (used < values.length) throw failed(`printf ${quote(pattern)} has too many arguments`);
  return text;
}

function formatOne(value: Value, { flags, precision, verb }: Directive): string {
  const unfit = () => failed(`printf can't write ${typeOf(value)} as %${verb}`);
  const integer = isStruct(value) ? value.integer : value;
  const signed = (text: string): string =>
    text.startsWith("-") ? text : (/[+]/.exec(flags)?.[0] ?? (flags.includes(" ") ? " " : "")) + text;
  if (typeof integer === "bigint" && verb in bases) {
    const digits = integer.toString(bases[verb]);
    const [sign, size] = digits.startsWith("-") ? ["-", digits.slice(1)] : ["", digits];
    const prefix = flags.includes("#") ? (prefixes[verb] ?? "") : "";
    const text = sign + prefix + size.padStart(precision ?? 0, "0");
    return signed(verb === "X" ? text.toUpperCase() : text);
  }
  if (typeof integer === "bigint" && verb === "c") return String.fromCodePoint(Number(integer));
  if (typeof value === "number" && /[fFeEgG]/.test(verb)) return signed(formatNumber(value, verb, precision));
  if (verb === "t" && typeof value === "boolean") return String(value);
  if (verb === "v") return typeof value === "bigint" ? signed(format(value)) : format(value);
  if (verb === "s" || verb === "q" || verb === "x" || verb === "X") {
    return formatString(value, verb, precision) ?? refuse(unfit());
  }
  throw unfit();
}

const bases: Readonly<Record<string, number>> = { d: 10, x: 16, X: 16, o: 8, b: 2 };
const prefixes: Readonly<Record<string, string>> = { x: "0x", X: "0X", o: "0", b: "0b" };

function refuse(error: Error): never {
  throw error;
}

function formatString(value: Value, verb: string, precision: number | undefined): string | undefined {
  if (isList(value)) {
    const parts = value.map((part) => formatString(part, verb, precision));
    return parts.includes(undefined) ? undefined : `[${parts.join(" ")}]`;
  }
  const bytes = bytesOf(value);
  if (!bytes) return undefined;
  if (verb === "x" || verb === "X") {
    const text = bytes.subarray(0, precision).toString("hex");
    return verb === "X" ? text.toUpperCase() : text;
  }
  const text = [...bytes.toString("utf8")].slice(0, precision).join("");
  return verb === "q" ? quote(text) : text;
}

function bytesOf(value: Value): Buffer | undefined {
  if (typeof value === "string") return Buffer.from(value);
  if (isStruct(value)) return value.text === undefined ? undefined : Buffer.from(value.text);
  return value instanceof Uint8Array ? Buffer.from(value) : undefined;
}

function formatNumber(value: number, verb: string, precision: number | undefined): string {
  if (/[gG]/.test(verb))
    return precision === undefined ? format(value) : String(Number(value.toPrecision(precision)));
  if (/[fF]/.test(verb)) return value.toFixed(precision ?? 6);
  const text = value.toExponential(precision ?? 6).replace(/e([+-])(\d)$/, "e$10$2");
  return verb === "E" ? text.toUpperCase() : text;
}

/** Zeros stand between the sign and the digits; a text to the left is filled with spaces. */
function pad(text: string, { flags, width = 0, verb }: Directive): string {
  const isLeft = flags.includes("-") || width < 0;
  const missing = Math.abs(width) - [...text].length;
  if (missing <= 0) return text;
  if (isLeft) return text + " ".repeat(missing);
  if (!flags.includes("0")) return " ".repeat(missing) + text;
  const [sign = ""] = /[a-z]/i.test(verb) && /^[+-]?\d/.test(text) ? (/^[+-]?/.exec(text) ?? []) : [];
  return sign + "0".repeat(missing) + text.slice(sign.length);
}
