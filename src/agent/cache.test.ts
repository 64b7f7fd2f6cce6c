import { describe, expect, test } from "bun:test";
import { plainEntry } from "../../test/fakes/spire-server.ts";
import { createManualClock } from "../core/clock.ts";
import type { Entry } from "../core/entry.ts";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import { parseSelector, type Selector } from "../core/selector.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { X509SVIDResponse } from "../rpc/gen/spiffe/workload/workloadapi.ts";
import { createWorkloadCache, type WorkloadCache } from "./cache.ts";
import type { WorkloadSvid } from "./sign-svids.ts";
import type { WorkloadView } from "./view.ts";

const own = emptyBundle(parseTrustDomain("example.org"));
const otherTest = parseTrustDomain("other.test");
const noBundles = { own, federated: new Map() };

const selectors = (...texts: string[]): readonly Selector[] => texts.map(parseSelector);
const entry = (id: string, fields: Partial<Entry> = {}): Entry => ({
  ...plainEntry(id, 100),
  selectors: selectors("unix:uid:1"),
  ...fields,
});

function newCache(maxSvids = 1000) {
  const clock = createManualClock(1_000_000);
  const asked = { count: 0 };
  const cache = createWorkloadCache({ clock, maxSvids, onMissing: () => asked.count++ });
  const put = (...entries: Entry[]) => cache.update({ put: entries, deleted: [] }, noBundles);
  /** Signs what is due, with a life of an hour. */
  const sign = () => {
    const due = cache.due();
    cache.putSvids(new Map(due.map((it) => [it.id, svidOf(it, clock.now() / 1000)])));
    return due.map(({ id }) => id);
  };
  return { cache, clock, asked, put, sign };
}

const svidOf = (it: Entry, now: number): WorkloadSvid => ({
  spiffeId: it.spiffeId,
  chain: Buffer.from(`chain of ${it.id}`),
  key: Buffer.from("key"),
  expiresAt: now + 3600,
  renewAt: now + 1800,
  revisionNumber: it.revisionNumber,
  issuers: [],
});

const identities = (view: WorkloadView): string[] | undefined => {
  const message = view.message("x509-svids");
  return message && X509SVIDResponse.decode(message.bytes).svids.map(({ spiffeId }) => spiffeId.slice(21));
};

function countTold(cache: WorkloadCache, ...texts: string[]) {
  const view = cache.view(selectors(...texts));
  const told = { count: 0, stop: () => {} };
  told.stop = view.listen(() => told.count++);
  return told;
}

describe("a workload's identities", () => {
  test("are those whose selectors it has, ordered by entry ID", () => {
    const { cache, put, sign } = newCache();
    put(entry("c"), entry("a"), entry("b", { selectors: selectors("unix:uid:1", "unix:gid:9") }));
    sign();
    expect(identities(cache.view(selectors("unix:uid:1")))).toEqual(["a", "c"]);
    expect(identities(cache.view(selectors("unix:gid:9", "unix:uid:1")))).toEqual(["a", "b", "c"]);
    expect(cache.view(selectors("unix:uid:2")).entries()).toEqual([]);
  });

  test("show each hint once, for the oldest entry", () => {
    const { cache, put, sign } = newCache();
    put(entry("a", { hint: "x", createdAt: 200 }), entry("b", { hint: "x", createdAt: 100 }), entry("c"));
    sign();
    expect(identities(cache.view(selectors("unix:uid:1")))).toEqual(["b", "c"]);
  });

  test("are not told before all of them are signed", () => {
    const { cache, put, sign, asked } = newCache();
    put(entry("a"));
    sign();
    put(entry("b"));
    const view = cache.view(selectors("unix:uid:1"));
    expect(view.message("x509-svids")).toBeUndefined();
    expect(asked.count).toBe(1);
    sign();
    expect(identities(view)).toEqual(["a", "b"]);
  });

  test("never include entries that are for an SVID store", () => {
    const { cache, put, sign } = newCache();
    put(entry("a", { storeSvid: true }));
    expect(sign()).toEqual([]);
    expect(cache.view(selectors("unix:uid:1")).entries()).toEqual([]);
  });

  test("are not handed out once expired, also when no sync noticed", async () => {
    const { cache, put, sign, clock } = newCache();
    put(entry("a"));
    sign();
    const view = cache.view(selectors("unix:uid:1"));
    expect(identities(view)).toEqual(["a"]);
    await clock.advance(12 * 3600 * 1000);
    expect(view.message("x509-svids")).toBeUndefined();
    sign();
    expect(identities(view)).toEqual(["a"]);
  });

  test("of an entry whose SPIFFE ID changed wait for the new SVID", () => {
    const { cache, put, sign } = newCache();
    put(entry("a"));
    sign();
    put({ ...entry("a"), spiffeId: entry("other").spiffeId, revisionNumber: 1 });
    const view = cache.view(selectors("unix:uid:1"));
    expect(view.message("x509-svids")).toBeUndefined();
    sign();
    expect(identities(view)).toEqual(["other"]);
  });
});

describe("a message", () => {
  test("is one object for all who see the same", () => {
    const { cache, put, sign } = newCache();
    put(entry("a"));
    sign();
    const first = cache.view(selectors("unix:uid:1")).message("x509-svids");
    expect(cache.view(selectors("unix:uid:1")).message("x509-svids")).toBe(first);
    expect(cache.view(selectors("unix:uid:1", "unix:gid:5")).message("x509-svids")).toBe(first);
  });

  test("changes with the authorities that it holds, and with no others", async () => {
    const { cache, put, sign } = newCache();
    put(entry("a"));
    sign();
    const view = cache.view(selectors("unix:uid:1"));
    const kinds = ["x509-svids", "x509-bundles", "jwt-bundles"] as const;
    const changedBy = (bundle: Partial<TrustBundle>) => {
      const before = kinds.map((kind) => view.message(kind));
      cache.update({ put: [], deleted: [] }, { own: { ...own, ...bundle }, federated: new Map() });
      return kinds.filter((kind, index) => view.message(kind) !== before[index]);
    };
    const publicKey = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
    const jwtAuthorities = [{ keyId: "k", publicKey, expiresAt: 0, tainted: false }];
    const tainted = jwtAuthorities.map((authority) => ({ ...authority, tainted: true }));
    const x509Authorities = [{ der: Buffer.from("root"), tainted: false }];
    expect(changedBy({ jwtAuthorities })).toEqual(["jwt-bundles"]);
    expect(changedBy({ jwtAuthorities, sequenceNumber: 2 })).toEqual([]);
    expect(changedBy({ jwtAuthorities: tainted })).toEqual([]);
    expect(changedBy({ jwtAuthorities, x509Authorities })).toEqual(["x509-svids", "x509-bundles"]);
    expect(changedBy({ x509Authorities })).toEqual(["jwt-bundles"]);
  });

  test("stays the same object when a change doesn't concern it", () => {
    const { cache, put, sign } = newCache();
    put(entry("a"));
    sign();
    const view = cache.view(selectors("unix:uid:1"));
    const before = view.message("x509-svids");
    put(entry("z", { selectors: selectors("unix:uid:2") }));
    cache.update({ put: [], deleted: [] }, noBundles);
    expect(view.message("x509-svids")).toBe(before);
  });

  test("carries the bundles that its identities federate with, and no others", () => {
    const { cache, sign } = newCache();
    const federated = new Map([[otherTest, emptyBundle(otherTest)]]);
    const put = [
      entry("a", { federatesWith: [otherTest] }),
      entry("b", { selectors: selectors("unix:uid:2") }),
    ];
    cache.update({ put, deleted: [] }, { own, federated });
    sign();
    const federatedOf = (text: string) => {
      const message = cache.view(selectors(text)).message("x509-svids");
      return message && Object.keys(X509SVIDResponse.decode(message.bytes).federatedBundles);
    };
    expect(federatedOf("unix:uid:1")).toEqual(["spiffe://other.test"]);
    expect(federatedOf("unix:uid:2")).toEqual([]);
  });
});

describe("a change tells", () => {
  test("only those whom it concerns", () => {
    const { cache, put, sign } = newCache();
    put(entry("a"), entry("z", { selectors: selectors("unix:uid:2") }));
    sign();
    const [concerned, other] = [countTold(cache, "unix:uid:1"), countTold(cache, "unix:uid:2")];
    put(entry("b"));
    cache.update({ put: [], deleted: ["a"] }, noBundles);
    expect([concerned.count, other.count]).toEqual([2, 0]);
  });

  test("those who lose an entry as well as those who gain it", () => {
    const { cache, put } = newCache();
    put(entry("a"));
    const [loser, winner] = [countTold(cache, "unix:uid:1"), countTold(cache, "unix:uid:2")];
    put(entry("a", { selectors: selectors("unix:uid:2"), revisionNumber: 1 }));
    expect([loser.count, winner.count]).toEqual([1, 1]);
  });

  test("everybody when it is the own bundle, once", () => {
    const { cache, put } = newCache();
    put(entry("a"));
    const listeners = [countTold(cache, "unix:uid:1"), countTold(cache, "unix:uid:2")];
    cache.update(
      { put: [entry("b")], deleted: [] },
      { own: { ...own, sequenceNumber: 2 }, federated: new Map() },
    );
    expect(listeners.map(({ count }) => count)).toEqual([1, 1]);
  });

  test("those who federate when it is a federated bundle", () => {
    const { cache, put } = newCache();
    put(entry("a", { federatesWith: [otherTest] }), entry("b", { selectors: selectors("unix:uid:2") }));
    const [federating, other] = [countTold(cache, "unix:uid:1"), countTold(cache, "unix:uid:2")];
    const federated = new Map([[otherTest, emptyBundle(otherTest)]]);
    cache.update({ put: [], deleted: [] }, { own, federated });
    expect([federating.count, other.count]).toEqual([1, 0]);
  });

  test("nobody who has stopped listening", () => {
    const { cache, put } = newCache();
    const told = countTold(cache, "unix:uid:1");
    told.stop();
    put(entry("a"));
    expect(told.count).toBe(0);
  });

  test("listeners of any number of selector sets, also after many idle ones", () => {
    const { cache, put } = newCache();
    const early = cache.view(selectors("unix:uid:1", "unix:gid:0"));
    for (let gid = 1; gid < 2000; gid++) cache.view(selectors("unix:uid:1", `unix:gid:${gid}`)).entries();
    let told = 0;
    early.listen(() => told++);
    put(entry("a"));
    expect(told).toBe(1);
    expect(early.entries().map(({ id }) => id)).toEqual(["a"]);
  });
});

describe("an SVID is due", () => {
  test("when there is none, at its renewal time, and with a new revision", async () => {
    const { cache, put, sign, clock } = newCache();
    put(entry("a"), entry("b"));
    expect(sign()).toEqual(["a", "b"]);
    expect(cache.due()).toEqual([]);
    put(entry("b", { revisionNumber: 1 }));
    expect(sign()).toEqual(["b"]);
    await clock.advance(1_801_000);
    expect(sign()).toEqual(["a", "b"]);
  });

  test("only on demand beyond the size of the cache, those who wait first", () => {
    const { cache, put, sign, asked } = newCache(2);
    put(entry("a"), entry("b"), entry("c", { selectors: selectors("unix:uid:3") }));
    expect(sign()).toEqual(["a", "b"]);
    const view = cache.view(selectors("unix:uid:3"));
    const stop = view.listen(() => {});
    expect(view.message("x509-svids")).toBeUndefined();
    expect(asked.count).toBe(1);
    expect(sign()).toEqual(["c"]);
    expect(identities(view)).toEqual(["c"]);
    expect(cache.svidCount()).toBe(2);
    stop();
  });

  test("only on demand for an entry that is not to be fetched ahead", () => {
    const { cache, put, sign } = newCache();
    put(entry("a", { disableX509SvidPrefetch: true }));
    expect(sign()).toEqual([]);
    expect(cache.view(selectors("unix:uid:1")).message("x509-svids")).toBeUndefined();
    expect(sign()).toEqual(["a"]);
  });

  test("an SVID that a stream holds is never evicted", () => {
    const { cache, put, sign } = newCache(1);
    const held = cache.view(selectors("unix:uid:1"));
    const stop = held.listen(() => {});
    put(entry("a"), entry("b", { selectors: selectors("unix:uid:2") }));
    sign();
    cache.view(selectors("unix:uid:2")).message("x509-svids");
    sign();
    expect(identities(held)).toEqual(["a"]);
    stop();
  });
});
