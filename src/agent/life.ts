/** An agent's life: attest, sync again and again, renew, come back after an outage, end when it is turned away. */
import { type Clock, sleep } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type Backoff, backoffDelay, startTask, type Task } from "../core/tasks.ts";
import { denialOf } from "./denial.ts";
import { type AgentIdentity, isPassing } from "./identity.ts";

export interface AgentLife {
  /** Resolves once attested and synced. @throws SpireError when that can't be. */
  start(): Promise<void>;
  /** Syncs at once; calls during a round lead to one more. */
  nudge(): void;
  /** Syncs soon, for a workload that waits. Never sooner than an outage's back-off says. */
  demand(): void;
  /** Resolves when the round under way is over. */
  stop(): Promise<void>;
  /** Resolves when the agent can't go on, with the reason. */
  readonly ended: Promise<SpireError>;
}

export interface AgentLifeDeps {
  readonly identity: AgentIdentity;
  /** One sync. */
  readonly sync: (signal: AbortSignal) => Promise<void>;
  /** Whether there is anything to hand out; without, a failing agent tries again sooner. */
  readonly hasSvids: () => boolean;
  readonly syncIntervalMs: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** At the start an unreachable server is tried again for a minute in all. */
const startBackoff: Backoff = { initialMs: 5_000, maximumMs: 60_000 };
const startLimitMs = 60_000;

/** While there is nothing to hand out, no wait is longer. */
const longestEmptyWaitMs = 5_000;
/** Workloads that ask again and again can't make an agent sync more often than this. */
const demandSpacingMs = 500;
const longestWaitMs = 8 * 60_000;
const waitSpread = 0.1;

export function createAgentLife(deps: AgentLifeDeps): AgentLife {
  const { identity, clock, log, syncIntervalMs } = deps;
  const ended = Promise.withResolvers<SpireError>();
  const stopping = new AbortController();
  const backoff: Backoff = {
    initialMs: syncIntervalMs,
    maximumMs: Math.min(48 * syncIntervalMs, longestWaitMs),
  };
  let task: Task | undefined;
  let failures = 0;
  let isNudged = false;
  let roundBegan = 0;
  let cancelDemand: (() => void) | undefined;

  function nudge(): void {
    isNudged = true;
    task?.nudge();
  }

  function demand(): void {
    if (failures > 0 || cancelDemand) return;
    const delay = roundBegan + demandSpacingMs - clock.now();
    if (delay <= 0) {
      nudge();
      return;
    }
    cancelDemand = clock.after(delay, () => {
      cancelDemand = undefined;
      nudge();
    });
  }

  async function round(signal: AbortSignal): Promise<void> {
    isNudged = false;
    roundBegan = clock.now();
    await identity.maintain(signal);
    await deps.sync(signal);
  }

  /** A refusal that a new attestation may mend gets one, at once. */
  async function roundWithReattestation(signal: AbortSignal): Promise<void> {
    try {
      await round(signal);
    } catch (error) {
      if (denialOf(error) !== "attest" || !identity.canAttest()) throw error;
      log.warn("Agent must attest again", { error });
      await identity.forget();
      await round(signal);
    }
  }

  /** Whether no later try can succeed: turned away, or without an SVID and a way to get one. */
  const isFatal = (error: unknown): boolean =>
    denialOf(error) !== undefined || (!identity.isValid() && !identity.canAttest() && !isPassing(error));

  async function giveUp(error: SpireError): Promise<void> {
    const what = denialOf(error) === "banned" ? "Agent is banned" : "Agent can't go on";
    log.warn(`${what}: removing SVID and shutting down`, { error });
    await identity.forget();
  }

  async function start(): Promise<void> {
    await identity.load();
    const began = clock.now();
    for (let tries = 1; ; tries++) {
      try {
        return await roundWithReattestation(stopping.signal);
      } catch (caught) {
        const error = SpireError.from(caught);
        if (denialOf(error)) await giveUp(error);
        const delay = backoffDelay(startBackoff, tries);
        const isLate = clock.now() + delay - began > startLimitMs;
        if (!isPassing(error) || isLate || stopping.signal.aborted) throw error;
        log.warn("Failed to start; retrying", { error, retry_interval: seconds(delay) });
        await sleep(clock, delay, stopping.signal);
      }
    }
  }

  /** @returns ms to wait until the next round. */
  async function runRound(signal: AbortSignal): Promise<number> {
    try {
      await roundWithReattestation(signal);
      failures = 0;
      return syncIntervalMs * (1 + waitSpread * (2 * Math.random() - 1));
    } catch (caught) {
      if (signal.aborted) return 0;
      return await afterFailure(SpireError.from(caught));
    }
  }

  async function afterFailure(error: SpireError): Promise<number> {
    if (isFatal(error)) {
      await giveUp(error);
      ended.resolve(error);
      stopping.abort();
      void task?.stop();
      return 0;
    }
    failures += 1;
    const delay = backoffDelay(backoff, failures);
    const wait = deps.hasSvids() ? delay : Math.min(delay, longestEmptyWaitMs);
    log.error("Synchronize failed", { error, retry_interval: seconds(wait) });
    return wait;
  }

  return {
    async start() {
      await start();
      task = startTask({ name: "Synchronize", clock, log, backoff, run: laterRound() });
    },
    nudge,
    demand,
    async stop() {
      stopping.abort();
      cancelDemand?.();
      await task?.stop();
    },
    ended: ended.promise,
  };

  /** The start was the first round, so the task begins with the wait for the second. */
  function laterRound(): (signal: AbortSignal) => Promise<number> {
    let isFirst = true;
    return async (signal) => {
      if (!isFirst) return runRound(signal);
      isFirst = false;
      return isNudged ? 0 : syncIntervalMs;
    };
  }
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)}s`;
