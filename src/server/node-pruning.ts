/** Removes agents whose SVIDs ended long ago; an agent that comes back has to attest again. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { formatGoDuration } from "../core/go-text.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import { startTask, type Task } from "../core/tasks.ts";
import type { Registry } from "./registry.ts";

const hourMs = 3_600_000;
/** Rounds are between 45 and 75 minutes apart, so that servers that share a database don't prune all at once. */
const jitterMs = 15 * 60_000;

export interface NodePruningOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** How long ago the SVID of an agent must have ended. */
  readonly expiredForMs: number;
  /** How many agents are removed in one round. */
  readonly batchSize: number;
  /** Whether agents that can't attest again are removed as well. */
  readonly includeTofu: boolean;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

/**
 * Looks about once an hour, first an hour after the start, so that agents which waited for this server come first.
 * Banned agents stay: with them would go what keeps them out.
 */
export function startNodePruning(options: NodePruningOptions): Task {
  const { registry, clock, log: parentLog, expiredForMs, batchSize, includeTofu } = options;
  const { metrics = nullMetrics } = options;
  const intervalMs = Math.trunc((hourMs + jitterMs * (2 * Math.random() - 1)) / 1_000) * 1_000;
  const log = parentLog.with({ retry_interval: formatGoDuration(intervalMs) });
  log.info("Periodic prune of expired nodes started", {
    expired_for: formatGoDuration(expiredForMs),
    include_tofu: includeTofu,
  });

  async function prune(): Promise<void> {
    const expiresBefore = unixSeconds(clock) - Math.ceil(expiredForMs / 1_000);
    const filter = { banned: false, expiresBefore, ...(includeTofu ? {} : { canReattest: true }) };
    try {
      const pruned = await measured(metrics, ["node", "manager", "prune"], () =>
        registry.purgeAgents(filter, batchSize),
      );
      log.info("Pruned expired agents", { count: pruned.length });
    } catch (error) {
      log.error("Failed during periodic pruning of expired nodes", { error });
    }
  }

  return startTask({
    name: "Periodic pruning of expired nodes",
    clock,
    log,
    backoff: { initialMs: intervalMs, maximumMs: intervalMs },
    firstDelayMs: intervalMs,
    async run() {
      await prune();
      return intervalMs;
    },
  });
}
