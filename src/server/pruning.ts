/** Takes what expired long ago out of the bundle, and out of the database the journals of servers that are gone. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import { startTask, type Task } from "../core/tasks.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { endOfJournal } from "./journal.ts";
import type { Registry } from "./registry.ts";

const intervalMs = 6 * 3_600_000;
/** Seconds for which an expired authority stays published. */
const graceSeconds = 24 * 3_600;

export interface PruningOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

/** Looks every 6 h. Entries and join tokens are the registry's own to prune. */
export function startBundlePruning({ registry, clock, log, metrics = nullMetrics }: PruningOptions): Task {
  return startTask({
    name: "bundle pruning",
    clock,
    log,
    backoff: { initialMs: 60_000, maximumMs: intervalMs },
    async run() {
      const now = unixSeconds(clock);
      let pruned = false;
      const prune = (current: TrustBundle | undefined): TrustBundle => {
        const bundle = current ?? emptyBundle(registry.trustDomain);
        const rest = pruneBundle(bundle, now);
        pruned = rest !== bundle;
        return rest;
      };
      await measured(metrics, ["ca", "manager", "bundle", "prune"], () =>
        registry.mutateBundle(registry.trustDomain, prune, "expired authorities pruned"),
      );
      if (pruned) metrics.counter(["ca", "manager", "bundle", "pruned"], 1);
      if (pruned) log.debug("Expired certificates were successfully pruned from bundle");
      return intervalMs;
    },
  });
}

const journalIntervalMs = 8 * 3_600_000;
/** Seconds for which the journal of a server whose authorities have all expired is kept. */
const journalGraceSeconds = 14 * 86_400;

/**
 * Looks every 8 h, first 8 h after the start. A server that was off for longer makes new authorities when it comes
 * back, as it would with the old ones expired.
 */
export function startJournalPruning({ registry, clock, log }: PruningOptions): Task {
  let isStart = true;
  return startTask({
    name: "CA journal pruning",
    clock,
    log,
    backoff: { initialMs: 60_000, maximumMs: journalIntervalMs },
    async run() {
      if (!isStart) await pruneJournals(registry, unixSeconds(clock) - journalGraceSeconds, log);
      isStart = false;
      return journalIntervalMs;
    },
  });
}

function pruneJournals(registry: Registry, endedBefore: number, log: Logger): Promise<void> {
  return registry.store.transaction(async ({ journals }) => {
    for (const { activeX509AuthorityId: id, data } of await journals.list()) {
      const end = endOfJournal(data);
      // What can't be read is left for people to look at.
      if (end === undefined || end >= endedBefore) continue;
      await journals.delete(id);
      log.info("Pruned stale CA journal record", { local_authority_id: id });
    }
  });
}

/**
 * The bundle without authorities that expired more than 24 h before `now` (unix seconds); of each kind at least
 * the one that ends last stays. The same object when there is nothing to prune.
 */
export function pruneBundle(bundle: TrustBundle, now: number): TrustBundle {
  const x509Authorities = pruneExpired(
    bundle.x509Authorities,
    ({ der }) => parseCertificate(der).notAfter,
    now,
  );
  const jwtAuthorities = pruneExpired(bundle.jwtAuthorities, ({ expiresAt }) => expiresAt || Infinity, now);
  const witAuthorities = pruneExpired(bundle.witAuthorities, ({ expiresAt }) => expiresAt || Infinity, now);
  const unchanged =
    x509Authorities.length === bundle.x509Authorities.length &&
    jwtAuthorities.length === bundle.jwtAuthorities.length &&
    witAuthorities.length === bundle.witAuthorities.length;
  if (unchanged) return bundle;
  const sequenceNumber = bundle.sequenceNumber + 1;
  return { ...bundle, x509Authorities, jwtAuthorities, witAuthorities, sequenceNumber };
}

function pruneExpired<T>(
  authorities: readonly T[],
  endOf: (authority: T) => number,
  now: number,
): readonly T[] {
  const kept = authorities.filter((authority) => endOf(authority) + graceSeconds >= now);
  if (kept.length > 0) return kept;
  const last = Math.max(...authorities.map(endOf));
  return authorities.filter((authority) => endOf(authority) === last);
}
