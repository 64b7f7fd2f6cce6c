/** Items of a batch: each done or failed for itself, with a status in its place. */
import { SpireError, statusCodes } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { Status } from "../../rpc/gen/spire/api/types/status.ts";

export const okStatus: Status = { code: 0, message: "OK" };

/** An item's error as its status; what is no SpireError is logged and told as "internal error". */
export function toStatus(error: unknown, log: Logger): Status {
  if (error instanceof SpireError) return { code: statusCodes[error.code], message: error.message };
  log.error("Unexpected error in a batch", { error });
  return { code: statusCodes.INTERNAL, message: "internal error" };
}

/** An item, or why it is none. */
export type Attempt<T> = { readonly value: T } | { readonly error: unknown };

/** Runs `work` for one item, so that its error stays its own. */
export function attempt<T>(work: () => T): Attempt<T> {
  try {
    return { value: work() };
  } catch (error) {
    return { error };
  }
}

export const valuesOf = <T>(attempts: readonly Attempt<T>[]): T[] =>
  attempts.flatMap((attempt) => ("value" in attempt ? [attempt.value] : []));

/** The next outcome of a batch that has one for each item. @throws SpireError INTERNAL when it has not. */
export function nextOf<T>(outcomes: Iterator<T>): T {
  const next = outcomes.next();
  if (next.done) throw new SpireError("INTERNAL", "a batch came back shorter than it was sent");
  return next.value;
}
