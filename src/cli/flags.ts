/** Flags as Go's `flag` package reads them: `-name value`, `-name=value`, `--name`; repeats, usage text, near misses. */
import { SpireError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { formatGoDuration, parseGoDuration, quote } from "./go-text.ts";

export { nearest };

/** How one flag is read. `parse` gets what stood before, so that a flag may be repeated. */
export interface Flag<T> {
  readonly usage: string;
  /** Go's word for its type in usage text; empty for switches. */
  readonly kind: "" | "string" | "int" | "duration" | "value";
  readonly initial: T;
  /** Shown as the default; empty = not shown. */
  readonly shown: string;
  /** The values that there are, for completion; undefined = others as well. */
  readonly choices?: readonly string[];
  /** @throws Error whose message says what is wrong with the value. */
  parse(text: string, previous: T): T;
  /** What is wrong with the value in this environment, apart from how it is written; looked at before all else. */
  flawIn?(value: T, environment: Readonly<Record<string, string | undefined>>): string | undefined;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;

export type FlagValues<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

const parseError = () => new Error("parse error");

export const stringFlag = (usage: string, initial = "", choices?: readonly string[]): Flag<string> => ({
  usage,
  kind: "string",
  initial,
  shown: initial === "" ? "" : quote(initial),
  ...(choices && { choices }),
  parse: (text) => text,
});

function parseBool(text: string): boolean {
  if (["1", "t", "T", "TRUE", "true", "True"].includes(text)) return true;
  if (["0", "f", "F", "FALSE", "false", "False"].includes(text)) return false;
  throw parseError();
}

/** A switch: needs no value, takes `=true` and `=false`. */
export const boolFlag = (usage: string): Flag<boolean> => ({
  usage,
  kind: "",
  initial: false,
  shown: "",
  parse: parseBool,
});

/** Three states: true, false and not given. Always takes a value. */
export const optionalBoolFlag = (usage: string): Flag<boolean | undefined> => ({
  usage,
  kind: "value",
  initial: undefined,
  shown: "",
  choices: ["true", "false"],
  parse: parseBool,
});

/** A whole number, in decimal or with Go's prefixes `0x`, `0o`, `0b`. */
export const intFlag = (usage: string, initial = 0): Flag<number> => ({
  usage,
  kind: "int",
  initial,
  shown: initial === 0 ? "" : String(initial),
  parse(text) {
    const digits = text.replace(/^[+-]/, "");
    if (!/^(\d+|0[xX][\da-fA-F]+|0[oO]?[0-7]+|0[bB][01]+)$/.test(digits)) throw parseError();
    const value = Number(/^0[0-7]+$/.test(digits) ? `0o${digits.slice(1)}` : digits);
    if (!Number.isSafeInteger(value)) throw new Error("value out of range");
    return text.startsWith("-") ? -value : value;
  },
});

/** Milliseconds, written as Go writes durations. */
export const durationFlag = (usage: string, initialMs = 0): Flag<number> => ({
  usage,
  kind: "duration",
  initial: initialMs,
  shown: initialMs === 0 ? "" : formatGoDuration(initialMs),
  parse(text) {
    try {
      return parseGoDuration(text);
    } catch {
      throw parseError();
    }
  },
});

/** May be given more than once; keeps all values in order. */
export const listFlag = (usage: string): Flag<readonly string[]> => ({
  usage,
  kind: "value",
  initial: [],
  shown: "",
  parse: (text, previous) => [...previous, text],
});

/** May be given more than once, each with one value or several between commas. */
export const commaListFlag = (usage: string): Flag<readonly string[]> => ({
  ...listFlag(usage),
  parse: (text, previous) => [...previous, ...text.split(",")],
});

export type OutputFormat = "pretty" | "json";

export const outputFlag: Flag<OutputFormat> = {
  usage: "Desired output format (pretty, json)",
  kind: "value",
  initial: "pretty",
  shown: "pretty",
  choices: ["pretty", "json"],
  parse(text) {
    const format = text.toLowerCase();
    if (format === "pretty" || format === "json") return format;
    throw new Error(`bad formatter flag: unknown format option: ${quote(text)}`);
  },
};

/** What the command line asks for in place of running: its help. */
export class HelpRequested extends Error {}

/** Which flags, as they stand alone before `--`, ask for help wherever they are: even in a flag's value's place. */
export const helpFlags: readonly string[] = ["-h", "-help", "--help"];

/** The flags can't be read; the message is Go's. `hint` names the flag that was probably meant. */
export class FlagError extends SpireError {
  readonly hint: string | undefined;
  constructor(message: string, hint?: string) {
    super("INVALID_ARGUMENT", message);
    this.hint = hint;
  }
}

export interface ParsedFlags<F extends Flags> {
  readonly values: FlagValues<F>;
  /** Names of the flags that were given. */
  readonly given: ReadonlySet<string>;
  /** What follows the first argument that is no flag, or `--`. */
  readonly rest: readonly string[];
}

/**
 * A flag of several words is also known with dashes between them: `--keep-bans` is `-keepBans`.
 * @param anywhere flags may also follow other arguments. @throws FlagError, HelpRequested.
 */
export function parseFlags<F extends Flags>(
  flags: F,
  args: readonly string[],
  anywhere = false,
): ParsedFlags<F> {
  const values: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(flags)) values[name] = flag.initial;
  const given = new Set<string>();
  const rest: string[] = [];
  let next = 0;
  while (next < args.length) {
    const argument = args[next] ?? "";
    if (argument.length < 2 || !argument.startsWith("-")) {
      if (!anywhere) break;
      rest.push(argument);
      next += 1;
      continue;
    }
    next += 1;
    if (argument === "--") break;
    const { name: written, inline } = splitFlag(argument);
    const name = Object.hasOwn(flags, written) ? written : withoutDashes(written, flags);
    const flag = flagNamed(flags, name);
    const following = flag.kind === "" ? "true" : args[next];
    if (inline === undefined && following === undefined)
      throw new FlagError(`flag needs an argument: -${name}`);
    if (inline === undefined && flag.kind !== "") next += 1;
    values[name] = readValue(flag, name, inline ?? following ?? "", values[name]);
    given.add(name);
  }
  return { values: values as FlagValues<F>, given, rest: [...rest, ...args.slice(next)] };
}

/** The flag's name if it is one written with dashes; else what was written. */
function withoutDashes(written: string, flags: Flags): string {
  const name = written.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return Object.hasOwn(flags, name) ? name : written;
}

function splitFlag(argument: string): { name: string; inline: string | undefined } {
  const body = argument.replace(/^--?/, "");
  if (body.startsWith("-") || body.startsWith("=")) throw new FlagError(`bad flag syntax: ${argument}`);
  const equals = body.indexOf("=");
  if (equals < 0) return { name: body, inline: undefined };
  return { name: body.slice(0, equals), inline: body.slice(equals + 1) };
}

function flagNamed(flags: Flags, name: string): Flags[string] {
  const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
  if (flag) return flag;
  if (name === "h" || name === "help") throw new HelpRequested();
  const near = nearest(name, Object.keys(flags));
  throw new FlagError(`flag provided but not defined: -${name}`, near && `did you mean -${near}?`);
}

function readValue(flag: Flags[string], name: string, text: string, previous: unknown): unknown {
  try {
    return flag.parse(text, previous);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const what = flag.kind === "" ? "invalid boolean value" : "invalid value";
    throw new FlagError(`${what} ${quote(text)} for ${flag.kind === "" ? "" : "flag "}-${name}: ${reason}`);
  }
}

/** `Usage of <command>:` and the flags, laid out like Go's `PrintDefaults`. */
export function usageOf(command: string, flags: Flags): string {
  const lines = Object.entries(flags)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { kind, usage, shown }]) => {
      const head = kind === "" ? `  -${name}` : `  -${name} ${kind}`;
      return `${head}\n    \t${usage}${shown === "" ? "" : ` (default ${shown})`}\n`;
    });
  return `Usage of ${command}:\n${lines.join("")}`;
}
