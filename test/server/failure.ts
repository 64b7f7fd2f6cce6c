/** Waiting for a failure in a test. */
import { SpireError } from "../../src/core/errors.ts";

/**
 * The error that `work` ends with. To be used instead of `expect(…).rejects`, which runs the event loop from
 * within and so can wait for ever on what it holds up itself.
 */
export async function failureOf(work: Promise<unknown>): Promise<SpireError> {
  try {
    await work;
  } catch (error) {
    return SpireError.from(error);
  }
  throw new Error("expected a failure");
}
