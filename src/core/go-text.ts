/** Text as Go's standard library writes and reads it, which SPIRE's users and scripts know: durations, quotes, errors. */
import { invalidArgument } from "./errors.ts";

const trimFraction = (value: number, digits: number): string => value.toFixed(digits).replace(/\.?0+$/, "");

/** `1.5s`, `3m7s`, `720h0m0s`, `2.507ms`, `0s`, like Go's `time.Duration.String()`; from milliseconds. */
export function formatGoDuration(ms: number): string {
  if (ms < 0) return `-${formatGoDuration(-ms)}`;
  const nanoseconds = Math.round(ms * 1e6);
  if (nanoseconds === 0) return "0s";
  if (nanoseconds < 1e3) return `${nanoseconds}ns`;
  if (nanoseconds < 1e6) return `${trimFraction(nanoseconds / 1e3, 3)}µs`;
  if (nanoseconds < 1e9) return `${trimFraction(nanoseconds / 1e6, 6)}ms`;
  const wholeSeconds = Math.floor(nanoseconds / 1e9);
  const rest = nanoseconds - wholeSeconds * 1e9;
  const seconds = `${wholeSeconds % 60}${rest === 0 ? "" : trimFraction(rest / 1e9, 9).slice(1)}s`;
  const minutes = Math.floor(wholeSeconds / 60);
  if (minutes === 0) return seconds;
  return minutes < 60 ? `${minutes}m${seconds}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${seconds}`;
}

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** Milliseconds of `300ms`, `-1.5h`, `2h45m` or `0`. @throws SpireError INVALID_ARGUMENT. */
export function parseGoDuration(text: string): number {
  const malformed = () => invalidArgument(`time: invalid duration ${quote(text)}`);
  const sign = text.startsWith("-") ? -1 : 1;
  const body = text.replace(/^[+-]/, "");
  if (body === "0") return 0;
  if (body === "") throw malformed();
  let total = 0;
  let rest = body;
  while (rest !== "") {
    const [part = "", amount = "", unit = ""] = /^(\d+\.?\d*|\.\d+)([^.\d]*)/.exec(rest) ?? [];
    if (part === "") throw malformed();
    const ms = unitMs[unit];
    if (unit === "") throw invalidArgument(`time: missing unit in duration ${quote(text)}`);
    if (ms === undefined)
      throw invalidArgument(`time: unknown unit ${quote(unit)} in duration ${quote(text)}`);
    total += Number(amount) * ms;
    rest = rest.slice(part.length);
  }
  if (total > 2 ** 63 / 1e6) throw malformed();
  return sign * total;
}

const shortEscapes: Readonly<Record<string, string>> = {
  "\x07": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
  '"': '\\"',
  "\\": "\\\\",
};

/** The text in double quotes, with control characters escaped, like Go's `%q`. */
export function quote(text: string): string {
  const escaped = text.replace(/["\\\p{Cc}]/gu, (character) => {
    const code = character.charCodeAt(0).toString(16);
    const numeric = character > "\x7f" ? `\\u${code.padStart(4, "0")}` : `\\x${code.padStart(2, "0")}`;
    return shortEscapes[character] ?? numeric;
  });
  return `"${escaped}"`;
}

/** What Go says about a failed system call, without its `open x:`; the code itself where no text is known. */
export function systemErrorText(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return systemErrors[code] ?? (error instanceof Error ? error.message : String(error));
}

const systemErrors: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "is a directory",
  ENOTDIR: "not a directory",
  EEXIST: "file exists",
  ECONNREFUSED: "connection refused",
  ENOSPC: "no space left on device",
  EROFS: "read-only file system",
  ENAMETOOLONG: "file name too long",
  EMFILE: "too many open files",
};
