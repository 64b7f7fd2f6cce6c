/** Supervised loops: a named piece of background work with back-off, jitter and an end. */
import { type Clock, sleep } from "./clock.ts";
import type { Logger } from "./log.ts";

export interface Backoff {
  /** First delay after a failure, in ms. */
  readonly initialMs: number;
  /** Longest delay, in ms. */
  readonly maximumMs: number;
  /** Growth per failure; 1.5 unless said. */
  readonly factor?: number;
  /** Share of the delay that is random, 0.1 = ±10 %; that unless said. */
  readonly jitter?: number;
}

/** The delay in ms before try number `failures` (1 = first retry), with jitter. */
export function backoffDelay(backoff: Backoff, failures: number): number {
  const grown = backoff.initialMs * (backoff.factor ?? 1.5) ** Math.max(0, failures - 1);
  const spread = backoff.jitter ?? 0.1;
  return Math.min(grown, backoff.maximumMs) * (1 + spread * (2 * Math.random() - 1));
}

export interface TaskOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly backoff: Backoff;
  /** Ms before the first round; 0 unless said. */
  readonly firstDelayMs?: number;
  /** One round of work; resolves to the ms to wait until the next round. */
  readonly run: (signal: AbortSignal) => Promise<number>;
}

export interface Task {
  /** Runs a round as soon as the current one is over, without waiting out the delay. */
  nudge(): void;
  /** Ends the loop; resolves when the round under way is over. */
  stop(): Promise<void>;
}

/** Repeats `run` until stopped. A round that throws is logged and retried with back-off. */
export function startTask({ name, clock, log, backoff, firstDelayMs = 0, run }: TaskOptions): Task {
  const stopping = new AbortController();
  let waiting = new AbortController();
  let nudged = false;
  let failures = 0;

  async function pause(delay: number): Promise<void> {
    if (nudged) return;
    waiting = new AbortController();
    await sleep(clock, delay, AbortSignal.any([waiting.signal, stopping.signal]));
  }

  async function loop(): Promise<void> {
    if (firstDelayMs > 0) await pause(firstDelayMs);
    while (!stopping.signal.aborted) {
      nudged = false;
      let delay: number;
      try {
        delay = await run(stopping.signal);
        failures = 0;
      } catch (error) {
        if (stopping.signal.aborted) return;
        failures += 1;
        delay = backoffDelay(backoff, failures);
        log.error(`${name} failed`, { error, retry_interval: `${(delay / 1000).toFixed(1)}s` });
      }
      await pause(delay);
    }
  }
  const finished = loop();

  return {
    nudge() {
      nudged = true;
      waiting.abort();
    },
    stop() {
      stopping.abort();
      return finished;
    },
  };
}
