/** What an agent holds for its workloads: entries, bundles, SVIDs, and the views that streams read. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Entry } from "../core/entry.ts";
import type { Selector } from "../core/selector.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import { equalBundles, type TrustBundle } from "../core/trust-bundle.ts";
import { createWorkloadEntries, uniqueHints } from "../core/workload-entries.ts";
import type { EncodedMessage } from "../rpc/service.ts";
import { unlessAborted } from "./abort.ts";
import type { EntryChanges } from "./fetch-entries.ts";
import type { WorkloadSvid } from "./sign-svids.ts";
import { taintedAuthorities } from "./validity.ts";
import type { Content, StreamKind, WorkloadView } from "./view.ts";
import { createViews } from "./views.ts";
import {
  type BundleForms,
  createBundleForms,
  encodeJwtBundles,
  encodeX509Bundles,
  encodeX509Svids,
  type IssuedIdentity,
  type MessageBundles,
} from "./workload-messages.ts";

export interface WorkloadCache {
  /** Resolves once the first sync is in. @throws SpireError CANCELLED when `signal` is aborted before. */
  whenReady(signal: AbortSignal): Promise<void>;
  isReady(): boolean;
  view(selectors: readonly Selector[]): WorkloadView;
  entries(): ReadonlyMap<string, Entry>;
  /** Undefined before the first sync. */
  bundle(): TrustBundle | undefined;
  federatedBundles(): ReadonlyMap<TrustDomain, TrustBundle>;
  /** Takes what a sync brought and tells the streams that it concerns. */
  update(entries: EntryChanges, bundles: CacheBundles): void;
  /** Takes SVIDs by entry ID and tells the streams that they concern. */
  putSvids(svids: ReadonlyMap<string, WorkloadSvid>): void;
  /** Entries that need a (new) SVID now, those first that somebody waits for. */
  due(): readonly Entry[];
  /** How many SVIDs are held. */
  svidCount(): number;
}

export interface CacheBundles {
  readonly own: TrustBundle;
  readonly federated: ReadonlyMap<TrustDomain, TrustBundle>;
}

export interface WorkloadCacheOptions {
  readonly clock: Clock;
  /** SVIDs beyond this many go, the least recently used first, unless a stream holds them. */
  readonly maxSvids: number;
  /** Called when a stream waits for an SVID that isn't there. */
  readonly onMissing: () => void;
}

interface HeldSvid extends WorkloadSvid {
  /** Tells two SVIDs of an entry apart. */
  readonly version: number;
}

const forever = Number.POSITIVE_INFINITY;

export function createWorkloadCache({ clock, maxSvids, onMissing }: WorkloadCacheOptions): WorkloadCache {
  const entries = new Map<string, Entry>();
  const index = createWorkloadEntries();
  const svids = new Map<string, HeldSvid>();
  /** Entry IDs by last use, oldest first; kept only while not everything fits. */
  const used = new Set<string>();
  const missing = new Set<string>();
  const federated = new Map<TrustDomain, BundleForms>();
  /** Messages made since the last change, for views that differ in selectors but not in identities. */
  const shared = new Map<string, EncodedMessage>();
  const ready = Promise.withResolvers<void>();
  let own: BundleForms | undefined;
  let tainted: ReadonlySet<string> = new Set();
  let version = 0;

  const views = createViews({
    now: () => unixSeconds(clock),
    match: (selectors) => uniqueHints(index.match(selectors)),
    content,
    encode,
  });

  /** The SVID of an entry when it may be handed out: right ID and not expired. */
  function usable(entry: Entry): HeldSvid | undefined {
    const svid = svids.get(entry.id);
    return svid?.spiffeId === entry.spiffeId && unixSeconds(clock) < svid.expiresAt ? svid : undefined;
  }

  function content(kind: StreamKind, matched: readonly Entry[]): Content | undefined {
    if (!own) return undefined;
    const bundles = bundlesFor(own, matched);
    const form = kind === "jwt-bundles" ? "jwks" : "der";
    const bundleKey = [own, ...bundles.federated.values()].map(({ versions }) => versions[form]).join(",");
    if (kind !== "x509-svids") return { key: bundleKey, goodUntil: forever };
    const identities = identitiesOf(matched);
    if (!identities) return undefined;
    const parts = identities.map(({ entry, svid }) => `${entry.id}:${svid.version}:${entry.hint}`);
    return {
      key: `${bundleKey} ${JSON.stringify(parts)}`,
      goodUntil: identities.reduce((least, { svid }) => Math.min(least, svid.expiresAt), forever),
    };
  }

  /** Undefined when one of them waits for its SVID, which is then asked for. */
  function identitiesOf(
    matched: readonly Entry[],
  ): readonly (IssuedIdentity & { svid: HeldSvid })[] | undefined {
    const identities: (IssuedIdentity & { svid: HeldSvid })[] = [];
    for (const entry of matched) {
      const svid = usable(entry);
      if (svid) identities.push({ entry, svid });
      else missing.add(entry.id);
      if (entries.size > maxSvids) noteUse(entry.id);
    }
    if (identities.length === matched.length) return identities;
    onMissing();
    return undefined;
  }

  function noteUse(id: string): void {
    used.delete(id);
    used.add(id);
  }

  function bundlesFor(own: BundleForms, matched: readonly Entry[]): MessageBundles {
    const wanted = new Set(matched.flatMap(({ federatesWith }) => federatesWith));
    const found = [...federated].filter(([trustDomain]) => wanted.has(trustDomain));
    return { own, federated: new Map(found) };
  }

  function encode(kind: StreamKind, matched: readonly Entry[], { key }: Content): EncodedMessage {
    const sharedKey = `${kind} ${key}`;
    const made = shared.get(sharedKey) ?? encodeNew(kind, matched);
    shared.set(sharedKey, made);
    return made;
  }

  function encodeNew(kind: StreamKind, matched: readonly Entry[]): EncodedMessage {
    if (!own) throw new Error("a message was made before the first sync");
    const bundles = bundlesFor(own, matched);
    if (kind === "x509-bundles") return encodeX509Bundles(bundles);
    if (kind === "jwt-bundles") return encodeJwtBundles(bundles);
    return encodeX509Svids(identitiesOf(matched) ?? [], bundles);
  }

  function putEntry(entry: Entry): void {
    const old = entries.get(entry.id);
    if (old) views.touchEntry(old);
    views.touchEntry(entry);
    entries.set(entry.id, entry);
    // SVIDs of these entries go to a store, never to a workload.
    if (entry.storeSvid) index.delete(entry.id);
    else index.put(entry);
  }

  function deleteEntry(id: string): void {
    const entry = entries.get(id);
    if (!entry) return;
    views.touchEntry(entry);
    entries.delete(id);
    index.delete(id);
    for (const memory of [svids, used, missing]) memory.delete(id);
  }

  function putBundles(bundles: CacheBundles): void {
    if (!own || !equalBundles(own.bundle, bundles.own)) {
      own = createBundleForms(bundles.own, ++version, own);
      tainted = taintedAuthorities(bundles.own);
      views.touchAll();
    }
    for (const trustDomain of federated.keys()) {
      if (bundles.federated.has(trustDomain)) continue;
      federated.delete(trustDomain);
      views.touchFederation(trustDomain);
    }
    for (const [trustDomain, bundle] of bundles.federated) {
      const known = federated.get(trustDomain);
      if (known && equalBundles(known.bundle, bundle)) continue;
      federated.set(trustDomain, createBundleForms(bundle, ++version, known));
      views.touchFederation(trustDomain);
    }
  }

  function isOutdated(svid: HeldSvid, entry: Entry, now: number): boolean {
    return (
      now >= svid.renewAt ||
      svid.revisionNumber !== entry.revisionNumber ||
      svid.spiffeId !== entry.spiffeId ||
      svid.issuers.some((id) => tainted.has(id))
    );
  }

  function due(): readonly Entry[] {
    const now = unixSeconds(clock);
    const waitedFor: Entry[] = [];
    const others: Entry[] = [];
    let room = maxSvids - svids.size;
    for (const entry of entries.values()) {
      if (entry.storeSvid) continue;
      const svid = svids.get(entry.id);
      if (missing.has(entry.id)) waitedFor.push(entry);
      else if (svid && isOutdated(svid, entry, now)) others.push(entry);
      else if (!svid && !entry.disableX509SvidPrefetch && room-- > 0) others.push(entry);
    }
    return [...waitedFor, ...others];
  }

  function evict(): void {
    if (svids.size <= maxSvids) return;
    const active = views.activeEntryIds();
    const neverUsed = [...svids.keys()].filter((id) => !used.has(id));
    for (const id of [...neverUsed, ...used]) {
      if (svids.size <= maxSvids) return;
      const entry = entries.get(id);
      if (!entry || active.has(id)) continue;
      svids.delete(id);
      // A view that nobody listens to must not go on handing out what isn't renewed any more.
      views.touchEntry(entry);
    }
  }

  return {
    isReady: () => own !== undefined,
    whenReady: (signal) => (own ? Promise.resolve() : unlessAborted(ready.promise, signal)),
    view: views.open,
    entries: () => entries,
    bundle: () => own?.bundle,
    federatedBundles: () => new Map([...federated].map(([trustDomain, { bundle }]) => [trustDomain, bundle])),
    update(changes, bundles) {
      shared.clear();
      putBundles(bundles);
      for (const id of changes.deleted) deleteEntry(id);
      for (const entry of changes.put) putEntry(entry);
      ready.resolve();
      views.notify();
    },
    putSvids(signed) {
      shared.clear();
      for (const [id, svid] of signed) {
        const entry = entries.get(id);
        if (!entry) continue;
        svids.set(id, { ...svid, version: ++version });
        missing.delete(id);
        views.touchEntry(entry);
      }
      evict();
      views.notify();
    },
    due,
    svidCount: () => svids.size,
  };
}
