/** Waiting that ends with its reason to wait. */
import { SpireError } from "../core/errors.ts";

/** Settles with the promise, or rejects with CANCELLED as soon as the signal is aborted. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = () => reject(new SpireError("CANCELLED", "the wait was cancelled"));
    if (signal.aborted) {
      cancel();
      promise.catch(() => {});
      return;
    }
    signal.addEventListener("abort", cancel, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", cancel));
  });
}
