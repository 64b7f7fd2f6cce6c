/** Keeps the bundles of federated trust domains fresh: each endpoint is polled as often as its bundle asks for. */
import type { Clock } from "../../core/clock.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import { equalRelationships, type FederationRelationship } from "../../core/federation.ts";
import type { Logger } from "../../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../../core/metrics.ts";
import { type TrustDomain, trustDomainOf } from "../../core/spiffe-id.ts";
import { type Backoff, startTask, type Task } from "../../core/tasks.ts";
import { equalBundles, type TrustBundle } from "../../core/trust-bundle.ts";
import type { Registry } from "../registry.ts";
import { type BundleFetch, fetchBundle } from "./fetch-bundle.ts";
import type { Relationships } from "./relationships.ts";

/** How often the stored relationships are looked at: another server may have changed them. */
const reloadMs = 10_000;
const minuteMs = 60_000;
const backoff: Backoff = { initialMs: reloadMs, maximumMs: minuteMs };
/** Seconds; for bundles that state no refresh hint (SPIFFE Federation, section 4.1). */
const defaultRefreshHint = 300;
const shortestRefreshHint = 60;
/** A missed poll or two must not let a bundle become stale. */
const pollsPerHint = 4;

/** Milliseconds until a bundle is fetched again; undefined = there is none yet. */
export function pollInterval(bundle: Pick<TrustBundle, "refreshHint"> | undefined): number {
  if (!bundle) return minuteMs;
  const hint = bundle.refreshHint === 0 ? defaultRefreshHint : bundle.refreshHint;
  return (Math.max(hint, shortestRefreshHint) * 1_000) / pollsPerHint;
}

export interface BundleRefresh {
  /**
   * Fetches and stores a trust domain's bundle now. False when there is no relationship with it.
   * @throws SpireError, see `fetchBundle`.
   */
  refresh(trustDomain: TrustDomain): Promise<boolean>;
  stop(): Promise<void>;
}

export interface BundleRefreshOptions {
  readonly registry: Registry;
  readonly relationships: Relationships;
  /** Those of the configuration; each takes the place of a stored one with the same trust domain. */
  readonly configured: readonly FederationRelationship[];
  readonly clock: Clock;
  readonly log: Logger;
  readonly webRoots?: BundleFetch["webRoots"];
  /** See `BundleFetch`. */
  readonly requirePqKem?: boolean;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

interface Poller {
  readonly relationship: FederationRelationship;
  readonly task: Task;
}

/** Begins to poll. @throws SpireError INVALID_ARGUMENT for a configured relationship with the own trust domain. */
export function startBundleRefresh(options: BundleRefreshOptions): BundleRefresh {
  const { registry, relationships, clock, log, metrics = nullMetrics } = options;
  const configured = new Map(options.configured.map((item) => [item.trustDomain, item]));
  if (configured.has(registry.trustDomain)) {
    throw invalidArgument(`federation with the server's own trust domain "${registry.trustDomain}"`);
  }
  const pollers = new Map<TrustDomain, Poller>();
  const stopping = new AbortController();

  function fetchAndStore(relationship: FederationRelationship, signal: AbortSignal): Promise<boolean> {
    const name = ["bundle_manager", "fetch", "federated_bundle"];
    const about = { trust_domain_id: relationship.trustDomain };
    return measured(metrics, name, () => refreshOnce(relationship, signal), about);
  }

  async function refreshOnce(relationship: FederationRelationship, signal: AbortSignal): Promise<boolean> {
    const { trustDomain, profile } = relationship;
    const endpointDomain =
      profile.type === "https_spiffe" ? trustDomainOf(profile.endpointSpiffeId) : trustDomain;
    const fetched = await fetchBundle({
      relationship,
      endpointBundle: registry.bundles.get(endpointDomain),
      clock,
      signal,
      ...(options.webRoots && { webRoots: options.webRoots }),
      requirePqKem: options.requirePqKem ?? false,
    });
    let replaced = false;
    await registry.mutateBundle(trustDomain, (current) => {
      replaced = !current || !equalBundles(current, fetched);
      return current && !replaced ? current : fetched;
    });
    if (replaced) {
      const name = ["bundle_manager", "update", "federated_bundle"];
      metrics.counter(name, 1, { trust_domain_id: trustDomain });
    }
    return replaced;
  }

  function startPoller(relationship: FederationRelationship): Poller {
    const { trustDomain } = relationship;
    const about = { trust_domain: trustDomain };
    const run = async (signal: AbortSignal): Promise<number> => {
      log.debug("Polling for bundle update", about);
      try {
        if (await fetchAndStore(relationship, signal)) log.info("Bundle refreshed", about);
      } catch (error) {
        // Not before the next poll: an endpoint in trouble is not helped by haste (section 6.2).
        if (!signal.aborted) log.error("Error updating bundle", { ...about, error: SpireError.from(error) });
      }
      const waitMs = pollInterval(registry.bundles.get(trustDomain));
      if (!signal.aborted) {
        log.debug("Scheduling next bundle refresh", { ...about, at: new Date(clock.now() + waitMs) });
      }
      return waitMs;
    };
    return { relationship, task: startTask({ name: "Bundle refresh", clock, log, backoff, run }) };
  }

  async function reload(): Promise<number> {
    const { items } = await relationships.list({ size: 0, token: "" });
    const wanted = new Map([...items.map((item) => [item.trustDomain, item] as const), ...configured]);
    for (const [trustDomain, { relationship, task }] of pollers) {
      const now = wanted.get(trustDomain);
      if (now && equalRelationships(now, relationship)) continue;
      pollers.delete(trustDomain);
      await task.stop();
      log.info("No longer polling for updates", { trust_domain: trustDomain });
      if (now) {
        log.info("Updated configuration for managed trust domain", {
          entry: trustDomain,
          ...endpointOf(now),
        });
        pollers.set(trustDomain, startPoller(now));
      } else {
        log.info("Trust domain no longer managed", { entry: trustDomain });
      }
    }
    for (const [trustDomain, relationship] of wanted) {
      if (pollers.has(trustDomain)) continue;
      log.info("Trust domain is now managed", { trust_domain: trustDomain, ...endpointOf(relationship) });
      pollers.set(trustDomain, startPoller(relationship));
    }
    return reloadMs;
  }

  const reloading = startTask({ name: "Federation relationships", clock, log, backoff, run: reload });
  const stopListening = relationships.onChange(() => reloading.nudge());

  return {
    async refresh(trustDomain) {
      const relationship = configured.get(trustDomain) ?? (await relationships.get(trustDomain));
      if (!relationship) return false;
      await fetchAndStore(relationship, stopping.signal);
      return true;
    },
    async stop() {
      log.info("Shutting down");
      stopListening();
      stopping.abort();
      await reloading.stop();
      await Promise.all([...pollers.values()].map(({ task }) => task.stop()));
    },
  };
}

const endpointOf = ({ bundleEndpointUrl, profile }: FederationRelationship) => ({
  bundle_endpoint_url: bundleEndpointUrl,
  bundle_endpoint_profile: profile.type,
});
