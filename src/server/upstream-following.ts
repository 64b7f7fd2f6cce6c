/** Follows the upstream authority's bundle: what changes there changes here, the own CA first where it must. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { startTask, type Task } from "../core/tasks.ts";
import { emptyBundle, type X509Authority } from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import type { UpstreamAuthority, UpstreamBundle } from "../plugins/upstream-authorities/index.ts";
import type { AuthorityKeeper, AuthoritySteps } from "./authority-keeper.ts";
import type { JournalEntry } from "./journal.ts";
import type { Registry } from "./registry.ts";
import { followUpstream, leadsTo, newlyTainted } from "./upstream-bundle.ts";

export interface FollowingOptions {
  readonly plugin: UpstreamAuthority;
  readonly authority: AuthorityKeeper;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

const backoff = { initialMs: 5_000, maximumMs: 30_000 };

/** A round that does nothing costs nothing, but there must be one. */
const idleMs = 3_600_000;

/** Does nothing for an upstream authority that doesn't tell of changes. */
export function startUpstreamFollowing(options: FollowingOptions): Task {
  const { plugin, authority, registry, clock, log } = options;
  let updates: AsyncIterator<UpstreamBundle> | undefined;

  const following = startTask({
    name: "following of the upstream authority's bundle",
    clock,
    log,
    backoff,
    async run(signal) {
      if (!plugin.updates) return idleMs;
      updates ??= plugin.updates(signal)[Symbol.asyncIterator]();
      try {
        const next = await updates.next();
        if (!next.done) {
          await authority.exclusively((steps) => apply(next.value, steps));
          return 0;
        }
        updates = undefined;
        return backoff.initialMs;
      } catch (error) {
        updates = undefined;
        throw error;
      }
    },
  });

  async function apply(upstream: UpstreamBundle, steps: AuthoritySteps): Promise<void> {
    const { trustDomain } = registry;
    const current = registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
    const tainted = newlyTainted(current, upstream);
    // Whoever sees the taint asks for new SVIDs at once; by then they must come from another CA.
    if (tainted.length > 0) await leave(tainted, steps);
    const own = steps.journaled("jwt").map((entry) => entry.authorityId);
    const terms = { ownKeyIds: new Set(own), nowSeconds: unixSeconds(clock) };
    await steps.changeBundle(
      (bundle) => followUpstream(bundle, upstream, terms),
      "upstream authority's bundle",
    );
  }

  /** Puts a CA in force that the tainted roots don't vouch for. */
  async function leave(tainted: readonly X509Authority[], steps: AuthoritySteps): Promise<void> {
    for (const { der } of tainted) {
      log.info("X.509 authority tainted", { subject_key_id: authorityId(parseCertificate(der)) });
    }
    const isConcerned = (entry: JournalEntry | undefined) =>
      entry !== undefined && leadsTo(entry, tainted, unixSeconds(clock));
    if (!isConcerned(steps.state("x509", "active"))) return;
    log.info("Current root CA is signed by a tainted upstream authority, preparing rotation");
    const prepared = steps.state("x509", "prepared");
    if (!prepared || isConcerned(prepared)) await steps.prepare(["x509"]);
    await steps.activate(["x509"]);
    if (isConcerned(steps.state("x509", "active"))) {
      log.warn("The upstream authority still signs with a tainted root; rotate it there");
    }
  }

  return following;
}
