/** The requests of a call as an async iterable that reads one message ahead of nothing. */
import { SpireError } from "../core/errors.ts";

export interface RequestQueue {
  readonly iterable: AsyncIterableIterator<unknown>;
  push(message: unknown): void;
  /** The client has half-closed. */
  end(): void;
  fail(error: SpireError): void;
  /** The call is over. */
  cancel(): void;
}

interface Waiter {
  resolve(result: IteratorResult<unknown>): void;
  reject(error: SpireError): void;
}

const exhausted = { done: true, value: undefined } as const;

/** `read` asks the transport for one more message; it is called once for each that a handler waits for. */
export function createRequestQueue(read: () => void): RequestQueue {
  const waiting: Waiter[] = [];
  let ended: SpireError | "done" | undefined;

  function settle(how: SpireError | "done"): void {
    ended ??= how;
    for (const waiter of waiting.splice(0)) finish(waiter);
  }
  function finish({ resolve, reject }: Waiter): void {
    if (ended instanceof SpireError) reject(ended);
    else resolve(exhausted);
  }

  return {
    iterable: {
      next() {
        return new Promise((resolve, reject) => {
          const waiter = { resolve, reject };
          if (ended) return finish(waiter);
          waiting.push(waiter);
          if (waiting.length === 1) read();
        });
      },
      return() {
        settle("done");
        return Promise.resolve(exhausted);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    },
    push(message) {
      waiting.shift()?.resolve({ done: false, value: message });
      if (waiting.length > 0) read();
    },
    end: () => settle("done"),
    fail: (error) => settle(error),
    cancel: () => settle(new SpireError("CANCELLED", "the call was cancelled")),
  };
}
