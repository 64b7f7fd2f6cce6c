/** When a process is asked to end: once is in an orderly way, later again is at once. */

/** Signals to end within this time, in ms, of the first count as the same one. */
const impatienceMs = 1_000;

export interface StopSignals {
  /** Calls back for each signal that asks this process to end. */
  onSignal(hear: () => void): void;
  /** Milliseconds of a clock that nobody sets. */
  now(): number;
  /** Ends the process as it is. */
  giveUp(): void;
}

/**
 * Resolves at the first signal. Many a supervisor sends its signal to the process and to its group, so others that
 * come soon are the same one; who sends one later has lost patience.
 */
export function untilStopped({ onSignal, now, giveUp }: StopSignals): Promise<void> {
  return new Promise((resolve) => {
    let first: number | undefined;
    onSignal(() => {
      first ??= now();
      if (now() - first >= impatienceMs) giveUp();
      else resolve();
    });
  });
}
