/** What both mint commands share: lifetimes. */
import { formatRfc3339 } from "./go-text.ts";

/** Milliseconds as whole seconds, rounded up, so that a short lifetime doesn't become "the default". */
export const wholeSeconds = (ms: number): number => Math.ceil(ms / 1000);

/** Rounding and the way to the server and back cost a moment; less than this is not worth a warning. */
const toleranceSeconds = 5;

/** The warning that the server granted less than was asked for; empty when it didn't. */
export function capWarning(what: string, expiresAt: number, ttlSeconds: number): string {
  const wanted = Date.now() / 1000 + ttlSeconds;
  if (ttlSeconds <= 0 || expiresAt === 0 || expiresAt >= wanted - toleranceSeconds) return "";
  return `${what} lifetime was capped shorter than specified ttl; expires "${formatRfc3339(expiresAt)}"\n`;
}
