/** What commands share that tell a server lifetimes. */
import { invalidArgument } from "../core/errors.ts";
import { formatGoDuration, formatRfc3339 } from "./go-text.ts";

/**
 * Milliseconds as whole seconds, rounded up, so that a short lifetime doesn't become "the default".
 * @throws SpireError INVALID_ARGUMENT for more than a message can hold.
 */
export function wholeSeconds(ms: number): number {
  const seconds = Math.ceil(ms / 1000);
  // SPIRE takes seconds for nanoseconds when it names them.
  requireInt32(seconds, "TTL", `time.Duration(${formatGoDuration(seconds / 1e6)})`);
  return seconds;
}

/** @param written the value with its type, as Go writes it. @throws SpireError INVALID_ARGUMENT. */
export function requireInt32(value: number, what: string, written: string): void {
  if (value >= -(2 ** 31) && value < 2 ** 31) return;
  throw invalidArgument(`invalid value for ${what}: overflow converting ${written} to int32`);
}

/** Rounding and the way to the server and back cost a moment; less than this is not worth a warning. */
const toleranceSeconds = 5;

/** The warning that the server granted less than was asked for; empty when it didn't. */
export function capWarning(what: string, expiresAt: number, ttlSeconds: number): string {
  const wanted = Date.now() / 1000 + ttlSeconds;
  if (ttlSeconds <= 0 || expiresAt === 0 || expiresAt >= wanted - toleranceSeconds) return "";
  return `${what} lifetime was capped shorter than specified ttl; expires "${formatRfc3339(expiresAt)}"\n`;
}
