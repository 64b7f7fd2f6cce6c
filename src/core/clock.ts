/** Time as a dependency, so that everything that waits or judges validity can be driven by a test. */

/** Cancels a timer; harmless when it has fired already. */
export type CancelTimer = () => void;

export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Calls back once after `delayMs` milliseconds of this clock; never keeps the process alive. */
  after(delayMs: number, callback: () => void): CancelTimer;
}

/** Whole seconds since the Unix epoch, as certificates, tokens and SPIRE's messages count. */
export const unixSeconds = (clock: Clock): number => Math.floor(clock.now() / 1000);

/**
 * The machine's clock. A wait is measured by wall time, so a machine that slept or whose clock stepped forward
 * wakes at most `stepCheckMs` late instead of after the whole remaining delay.
 */
const stepCheckMs = 5_000;

export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, callback) {
    const due = Date.now() + Math.max(0, delayMs);
    let timer: ReturnType<typeof setTimeout>;
    const arm = () => {
      const remaining = due - Date.now();
      if (remaining <= 0) return callback();
      timer = setTimeout(arm, Math.min(remaining, stepCheckMs));
      timer.unref();
    };
    timer = setTimeout(arm, Math.min(Math.max(0, delayMs), stepCheckMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** A clock that stands still until a test moves it. */
export interface ManualClock extends Clock {
  /** Moves time forward, firing due timers in order and letting promises settle between them. */
  advance(byMs: number): Promise<void>;
}

export function createManualClock(startMs: number): ManualClock {
  let now = startMs;
  let timers: { due: number; callback: () => void }[] = [];
  const settle = () => new Promise<void>((resolve) => setImmediate(resolve));
  return {
    now: () => now,
    after(delayMs, callback) {
      const timer = { due: now + Math.max(0, delayMs), callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    async advance(byMs) {
      const end = now + byMs;
      for (;;) {
        await settle();
        const next = timers.reduce<(typeof timers)[number] | undefined>(
          (first, timer) => (timer.due <= end && (!first || timer.due < first.due) ? timer : first),
          undefined,
        );
        if (!next) break;
        timers = timers.filter((timer) => timer !== next);
        now = Math.max(now, next.due);
        next.callback();
      }
      now = end;
      await settle();
    },
  };
}

/** Resolves after `delayMs` of the clock, or at once when `signal` is or becomes aborted. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(delayMs, done);
    signal?.addEventListener("abort", done, { once: true });
  });
}
