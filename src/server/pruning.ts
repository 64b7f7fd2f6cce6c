/** Takes authorities that expired long ago out of the bundle. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { startTask, type Task } from "../core/tasks.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import type { Registry } from "./registry.ts";

const intervalMs = 6 * 3_600_000;
/** Seconds for which an expired authority stays published. */
const graceSeconds = 24 * 3_600;

export interface PruningOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Looks every 6 h. Entries and join tokens are the registry's own to prune. */
export function startBundlePruning({ registry, clock, log }: PruningOptions): Task {
  return startTask({
    name: "bundle pruning",
    clock,
    log,
    backoff: { initialMs: 60_000, maximumMs: intervalMs },
    async run() {
      const now = unixSeconds(clock);
      await registry.mutateBundle(registry.trustDomain, (bundle) =>
        pruneBundle(bundle ?? emptyBundle(registry.trustDomain), now),
      );
      return intervalMs;
    },
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
