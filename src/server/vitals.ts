/** What a server reports of itself by the clock: that it runs, what it holds, how long its authority lasts. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import type { Metrics } from "../core/metrics.ts";
import { startTask, type Task } from "../core/tasks.ts";
import type { AuthorityKeeper } from "./authority-keeper.ts";
import type { Registry } from "./registry.ts";

const intervalMs = 10_000;

export interface VitalsOptions {
  readonly metrics: Metrics;
  readonly registry: Pick<Registry, "trustDomain" | "index" | "bundles">;
  readonly authority: Pick<AuthorityKeeper, "state">;
  /** Of the program. */
  readonly version: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Reports now, and every 10 s. */
export function startVitals({ metrics, registry, authority, version, clock, log }: VitalsOptions): Task {
  const { trustDomain, index, bundles } = registry;
  const about = { trust_domain_id: trustDomain };
  const startedAt = clock.now();
  metrics.gauge(["started"], 1, { version, ...about });

  function reportAuthority(): void {
    const active = authority.state("x509", "active");
    if (!active) return;
    metrics.gauge(["manager", "x509_ca", "rotate", "expiration"], active.notAfter, about);
    metrics.gauge(["manager", "x509_ca", "rotate", "ttl"], active.notAfter - unixSeconds(clock), about);
  }

  function reportHoldings(): void {
    metrics.gauge(["entry", "entries_by_entryid_cache", "count"], index.entryCount);
    metrics.gauge(["node", "agents_by_id_cache", "count"], index.nodeCount);
    metrics.gauge(["bundle", "count"], bundles.size);
  }

  function reportMemory(): void {
    const { heapUsed, rss } = process.memoryUsage();
    metrics.gauge(["runtime", "alloc_bytes"], heapUsed);
    metrics.gauge(["runtime", "sys_bytes"], rss);
  }

  return startTask({
    name: "metrics",
    clock,
    log,
    backoff: { initialMs: intervalMs, maximumMs: intervalMs },
    async run() {
      metrics.gauge(["uptime_in_ms"], clock.now() - startedAt);
      reportAuthority();
      reportHoldings();
      reportMemory();
      return intervalMs;
    },
  });
}
