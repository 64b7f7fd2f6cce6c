/** What every datastore must do, as tests to run against each instance. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Entry, EntryDraft } from "../../src/core/entry.ts";
import type { FederationRelationship } from "../../src/core/federation.ts";
import type { AttestedNode } from "../../src/core/node.ts";
import { formatSelector, matchesSet, type Selector, type SetMatch } from "../../src/core/selector.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../../src/core/trust-bundle.ts";
import {
  type CreateOutcome,
  keptVersions,
  type Page,
  type PageRequest,
  type Store,
} from "../../src/plugins/datastores/index.ts";

const now = 1_800_000_000;
const everything: PageRequest = { size: 0, token: "" };
const id = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const one = parseTrustDomain("one.test");
const two = parseTrustDomain("two.test");
const selectors = (...values: string[]): Selector[] => values.map((value) => ({ type: "t", value }));

const draft = (fields: Partial<EntryDraft> = {}): EntryDraft => ({
  id: "",
  spiffeId: id("/web"),
  parentId: id("/spire/agent/a"),
  selectors: selectors("1"),
  x509SvidTtl: 0,
  jwtSvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  storeSvid: false,
  hint: "",
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
  ...fields,
});

const node = (fields: Partial<AttestedNode> = {}): AttestedNode => ({
  id: id("/spire/agent/a"),
  attestationType: "join_token",
  serialNumber: "123456789012345678901234567890123456789",
  expiresAt: now + 3600,
  newSerialNumber: "",
  newExpiresAt: 0,
  canReattest: false,
  agentVersion: "1.0",
  selectors: [],
  ...fields,
});

const bundle = (fields: Partial<TrustBundle> = {}): TrustBundle => ({
  ...emptyBundle(one),
  refreshHint: 300,
  ...fields,
});

const relationship = (fields: Partial<FederationRelationship> = {}): FederationRelationship => ({
  trustDomain: one,
  bundleEndpointUrl: "https://one.test/bundle",
  profile: { type: "https_web" },
  ...fields,
});

function created(outcome: CreateOutcome | undefined): Entry {
  if (!outcome || "error" in outcome) throw outcome?.error ?? new Error("no outcome");
  return outcome.entry;
}

async function allPages<T>(read: (page: PageRequest) => Promise<Page<T>>, size: number): Promise<T[][]> {
  const pages: T[][] = [];
  let token = "";
  do {
    const page = await read({ size, token });
    pages.push([...page.items]);
    token = page.nextToken;
  } while (token !== "");
  return pages;
}

/** `open` gives an empty store each time. */
export function datastoreContract(name: string, open: () => Promise<Store>): void {
  describe(`datastore ${name}`, () => {
    let store: Store;
    beforeEach(async () => {
      store = await open();
    });
    afterEach(() => store.close());

    const create = async (fields: Partial<EntryDraft> = {}): Promise<Entry> =>
      created((await store.entries.create([draft(fields)], now))[0]);
    const addBundles = async () => {
      for (const trustDomain of [one, two]) {
        await store.bundles.mutate(trustDomain, () => bundle({ trustDomain }));
      }
    };
    const newChanges = async (since: number) =>
      (await store.changes.after(since, 1000)).map(({ kind, key }) => `${kind} ${key}`);

    describe("entries", () => {
      test("keep every field", async () => {
        await addBundles();
        const full = draft({
          id: "own-id",
          selectors: selectors("b", "a:with:colons", 'quote"'),
          x509SvidTtl: 2_147_483_647,
          jwtSvidTtl: 60,
          federatesWith: [two, one],
          admin: true,
          downstream: true,
          expiresAt: 4_102_444_800,
          dnsNames: ["z.test", "a.test"],
          storeSvid: true,
          hint: "hint",
          disableX509SvidPrefetch: true,
          jwtSvidIncludeJti: true,
        });
        const entry = await create(full);
        expect(entry).toEqual({
          ...full,
          federatesWith: [one, two],
          revisionNumber: 0,
          createdAt: now,
        });
        expect(await store.entries.get(["own-id"])).toEqual([entry]);
      });

      test("have their selectors in the order given, each once, and are the same in any order", async () => {
        await create({ id: "e", selectors: selectors("b", "a", "b") });
        const stored = async () => (await store.entries.get(["e"]))[0]?.selectors;
        expect(await stored()).toEqual(selectors("b", "a"));
        const [again] = await store.entries.create([draft({ selectors: selectors("a", "b") })], now);
        expect(again).toMatchObject({ existing: true, entry: { id: "e", selectors: selectors("b", "a") } });
        await store.entries.update([{ id: "e", fields: { selectors: selectors("a", "b") } }]);
        expect(await stored()).toEqual(selectors("a", "b"));
        await store.entries.update([{ id: "e", fields: { selectors: selectors("c", "b") } }]);
        expect(await stored()).toEqual(selectors("c", "b"));
        await store.entries.update([{ id: "e", fields: { hint: "h" } }]);
        expect(await stored()).toEqual(selectors("c", "b"));
      });

      test("without an ID get a UUID each", async () => {
        const first = await create({ spiffeId: id("/1") });
        const second = await create({ spiffeId: id("/2") });
        expect(first.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        expect(second.id).not.toBe(first.id);
      });

      test("that are similar to one that stands give that one, whatever the order of selectors", async () => {
        const first = await create({ selectors: selectors("1", "2") });
        const outcomes = await store.entries.create(
          [draft({ selectors: selectors("2", "1"), id: "other", hint: "x" })],
          now,
        );
        expect(outcomes).toEqual([{ entry: first, existing: true }]);
        expect(await store.entries.count({})).toBe(1);
      });

      test("fail one by one: the rest of the batch is there", async () => {
        await create({ id: "taken" });
        const outcomes = await store.entries.create(
          [
            draft({ id: "taken", spiffeId: id("/other") }),
            draft({ spiffeId: id("/fed"), federatesWith: [one] }),
            draft({ id: "good", spiffeId: id("/good") }),
            draft({ id: "again", spiffeId: id("/good") }),
          ],
          now,
        );
        expect(
          outcomes.map((outcome) => ("error" in outcome ? outcome.error.code : outcome.existing)),
        ).toEqual(["ALREADY_EXISTS", "INTERNAL", false, true]);
        expect(outcomes[1]).toHaveProperty(
          "error.message",
          'unable to find federated bundle "spiffe://one.test"',
        );
        expect(await store.entries.count({})).toBe(2);
      });

      test("are updated field by field, the revision growing each time", async () => {
        await addBundles();
        const entry = await create({ id: "e", hint: "before", dnsNames: ["a.test"] });
        const [first] = await store.entries.update([
          { id: "e", fields: { hint: "after", federatesWith: [one] } },
        ]);
        const expected = { ...entry, hint: "after", federatesWith: [one], revisionNumber: 1 };
        expect(first).toEqual({ entry: expected });
        expect(await store.entries.get(["e"])).toEqual([expected]);

        const changed = { spiffeId: id("/new"), parentId: id("/p"), selectors: selectors("9"), admin: true };
        const [second] = await store.entries.update([{ id: "e", fields: changed }]);
        expect(second).toEqual({ entry: { ...expected, ...changed, revisionNumber: 2 } });
        const listed = await store.entries.list(
          { selectors: { selectors: selectors("9"), match: "any" } },
          everything,
        );
        expect(listed.items.map((item) => item.id)).toEqual(["e"]);
        expect(await store.entries.count({ selectors: { selectors: selectors("1"), match: "any" } })).toBe(0);
      });

      test("are updated one by one: unknown, identical to another, unknown bundle", async () => {
        await create({ id: "a", spiffeId: id("/a") });
        await create({ id: "b", spiffeId: id("/b") });
        const outcomes = await store.entries.update([
          { id: "nope", fields: { hint: "x" } },
          { id: "b", fields: { spiffeId: id("/a") } },
          { id: "b", fields: { federatesWith: [one] } },
          { id: "a", fields: {} },
        ]);
        expect(outcomes.map((outcome) => ("error" in outcome ? outcome.error.code : "OK"))).toEqual([
          "NOT_FOUND",
          "ALREADY_EXISTS",
          "INTERNAL",
          "OK",
        ]);
        expect((await store.entries.get(["b"]))[0]).toMatchObject({ spiffeId: id("/b"), revisionNumber: 0 });
      });

      test("are deleted once, and can be made again", async () => {
        const entry = await create({ id: "e" });
        expect(await store.entries.delete(["e", "nope", "e"])).toEqual([true, false, false]);
        expect(await store.entries.get(["e"])).toEqual([undefined]);
        expect(await create({ id: "e" })).toEqual(entry);
      });

      test("are got in the order asked for", async () => {
        await create({ id: "a", spiffeId: id("/a") });
        await create({ id: "b", spiffeId: id("/b") });
        const got = await store.entries.get(["b", "nope", "a", "b"]);
        expect(got.map((entry) => entry?.id)).toEqual(["b", undefined, "a", "b"]);
      });

      test("whose time is over are pruned, others not", async () => {
        await create({ id: "forever", spiffeId: id("/1") });
        await create({ id: "over", spiffeId: id("/2"), expiresAt: now - 1 });
        await create({ id: "just", spiffeId: id("/3"), expiresAt: now });
        expect(await store.entries.pruneExpired(now)).toEqual(["over"]);
        expect(await store.entries.count({})).toBe(2);
        expect(await store.entries.pruneExpired(now)).toEqual([]);
      });

      test("are filtered by each field, all filters together", async () => {
        await create({ id: "a", spiffeId: id("/s"), hint: "h", downstream: true });
        await create({ id: "b", spiffeId: id("/s"), parentId: id("/p") });
        await create({ id: "c", spiffeId: id("/t"), parentId: id("/p"), hint: "h" });
        const find = async (filter: Parameters<Store["entries"]["list"]>[0]) => {
          const { items } = await store.entries.list(filter, everything);
          expect(await store.entries.count(filter)).toBe(items.length);
          return items.map((entry) => entry.id).join("");
        };
        expect(await find({})).toBe("abc");
        expect(await find({ spiffeId: id("/s") })).toBe("ab");
        expect(await find({ parentId: id("/p") })).toBe("bc");
        expect(await find({ hint: "h" })).toBe("ac");
        expect(await find({ hint: "" })).toBe("b");
        expect(await find({ downstream: true })).toBe("a");
        expect(await find({ downstream: false })).toBe("bc");
        expect(await find({ parentId: id("/p"), hint: "h", downstream: false })).toBe("c");
      });

      test("are filtered by sets as the set algebra says", async () => {
        await addBundles();
        const subsets: string[][] = [[]];
        for (const value of ["1", "2", "3"]) subsets.push(...subsets.map((set) => [...set, value]));
        const entries: Entry[] = [];
        for (const [at, set] of subsets.filter((subset) => subset.length > 0).entries()) {
          for (const federatesWith of [[], [one], [one, two]]) {
            const spiffeId = id(`/${at}-${federatesWith.length}`);
            entries.push(await create({ spiffeId, selectors: selectors(...set), federatesWith }));
          }
        }
        const matches: SetMatch[] = ["exact", "subset", "superset", "any"];
        for (const match of matches) {
          for (const given of subsets) {
            const filter = { selectors: { selectors: selectors(...given, ...given), match } };
            const expected = entries.filter((entry) =>
              matchesSet(
                new Set(entry.selectors.map(formatSelector)),
                new Set(filter.selectors.selectors.map(formatSelector)),
                match,
              ),
            );
            expect((await store.entries.list(filter, everything)).items).toEqual(expected);
          }
          for (const trustDomains of [[], [one], [two], [two, one]]) {
            const filter = { federatesWith: { trustDomains, match } };
            const expected = entries.filter(({ federatesWith }) =>
              matchesSet(new Set(federatesWith), new Set(trustDomains), match),
            );
            expect((await store.entries.list(filter, everything)).items).toEqual(expected);
            expect(await store.entries.count(filter)).toBe(expected.length);
          }
        }
      });

      test("come in pages: the last page with entries yields a token too, and then an empty page", async () => {
        for (const path of ["/1", "/2", "/3", "/4"]) await create({ id: path.slice(1), spiffeId: id(path) });
        const sizes = async (size: number) =>
          (await allPages((page) => store.entries.list({}, page), size)).map((page) => page.length);
        expect(await sizes(3)).toEqual([3, 1, 0]);
        expect(await sizes(5)).toEqual([4, 0]);
        expect(await sizes(2)).toEqual([2, 2, 0]);
        expect(await sizes(0)).toEqual([4]);
        expect(await sizes(-1)).toEqual([4]);
        const { nextToken } = await store.entries.list({ hint: "" }, { size: 1, token: "" });
        expect(nextToken).toMatch(/^[0-9]+$/);
        expect(await store.entries.list({}, { size: 2, token: "100000" })).toEqual({
          items: [],
          nextToken: "",
        });
        expect(await store.entries.list({}, { size: 2, token: "9223372036854775807" })).toEqual({
          items: [],
          nextToken: "",
        });
        // A token stays valid when what lies before it goes away.
        await store.entries.delete(["1"]);
        const rest = await store.entries.list({}, { size: 5, token: nextToken });
        expect(rest.items.map((entry) => entry.id)).toEqual(["2", "3", "4"]);
      });

      test.each(["bogus", "-1", "1.5", "1 OR 1", "9223372036854775808"])(
        "refuse the page token %p",
        async (token) => {
          const refusal = { code: "INTERNAL", message: `could not parse token '${token}'` };
          await expect(store.entries.list({}, { size: 2, token })).rejects.toMatchObject(refusal);
          await expect(store.nodes.list({}, { size: 2, token })).rejects.toMatchObject(refusal);
          await expect(store.bundles.list({ size: 2, token })).rejects.toMatchObject(refusal);
        },
      );
    });

    describe("nodes", () => {
      test("keep every field and are replaced as a whole", async () => {
        const first = node({
          newSerialNumber: "2",
          newExpiresAt: now + 9,
          canReattest: true,
          selectors: selectors("b", "a"),
        });
        await store.nodes.put(first);
        expect(await store.nodes.get(first.id)).toEqual({ ...first, selectors: selectors("a", "b") });
        const second = node({ serialNumber: "5", selectors: selectors("c") });
        await store.nodes.put(second);
        expect(await store.nodes.get(first.id)).toEqual(second);
        expect(await store.nodes.count({})).toBe(1);
        expect(await store.nodes.count({ selectors: { selectors: selectors("a"), match: "any" } })).toBe(0);
      });

      test("are updated and deleted, unknown ones not", async () => {
        const stored = node({ selectors: selectors("a") });
        await store.nodes.put(stored);
        const updated = { ...stored, serialNumber: "", newSerialNumber: "" };
        expect(await store.nodes.update(stored.id, { serialNumber: "", newSerialNumber: "" })).toEqual(
          updated,
        );
        expect(await store.nodes.get(stored.id)).toEqual(updated);
        expect(await store.nodes.update(id("/spire/agent/no"), { serialNumber: "" })).toBeUndefined();
        expect(await store.nodes.delete(id("/spire/agent/no"))).toBeUndefined();
        expect(await store.nodes.delete(stored.id)).toEqual(updated);
        expect(await store.nodes.get(stored.id)).toBeUndefined();
        expect(await store.nodes.count({})).toBe(0);
      });

      test("are filtered and paged", async () => {
        await store.nodes.put(node({ id: id("/spire/agent/a"), selectors: selectors("1", "2") }));
        await store.nodes.put(
          node({
            id: id("/spire/agent/b"),
            attestationType: "x509pop",
            canReattest: true,
            selectors: selectors("1"),
          }),
        );
        await store.nodes.put(node({ id: id("/spire/agent/c"), serialNumber: "", expiresAt: now - 1 }));
        const find = async (filter: Parameters<Store["nodes"]["list"]>[0]) => {
          const pages = await allPages((page) => store.nodes.list(filter, page), 1);
          const found = pages.flat().map((item) => item.id.slice(-1));
          expect(await store.nodes.count(filter)).toBe(found.length);
          return found.join("");
        };
        expect(await find({})).toBe("abc");
        expect(await find({ attestationType: "x509pop" })).toBe("b");
        expect(await find({ banned: true })).toBe("c");
        expect(await find({ banned: false })).toBe("ab");
        expect(await find({ canReattest: false })).toBe("ac");
        expect(await find({ expiresBefore: now })).toBe("c");
        expect(await find({ selectors: { selectors: selectors("1"), match: "exact" } })).toBe("b");
        expect(await find({ selectors: { selectors: selectors("1"), match: "superset" } })).toBe("ab");
        expect(await find({ selectors: { selectors: selectors("1"), match: "subset" } })).toBe("b");
        expect(await find({ selectors: { selectors: selectors("2", "9"), match: "any" } })).toBe("a");
        expect(await find({ banned: false, canReattest: false })).toBe("a");
      });
    });

    describe("bundles", () => {
      test("are made, changed and read back", async () => {
        expect(await store.bundles.get(one)).toBeUndefined();
        const first = bundle({
          jwtAuthorities: [
            { keyId: "k", publicKey: new Uint8Array([1, 2, 3]), expiresAt: now, tainted: true },
          ],
          sequenceNumber: 1,
        });
        await store.bundles.mutate(one, (current) => {
          expect(current).toBeUndefined();
          return first;
        });
        const read = await store.bundles.get(one);
        expect(read).toMatchObject({ trustDomain: one, refreshHint: 300, sequenceNumber: 1 });
        expect(read?.jwtAuthorities[0]).toMatchObject({ keyId: "k", expiresAt: now, tainted: true });
        await store.bundles.mutate(one, (current) => ({ ...(current ?? first), refreshHint: 60 }));
        expect((await store.bundles.get(one))?.refreshHint).toBe(60);
        expect(await store.bundles.count()).toBe(1);
      });

      test("are not written when the change gives back what it got, or throws", async () => {
        await store.bundles.mutate(one, () => bundle());
        const before = await store.changes.latest();
        await store.bundles.mutate(one, (current) => current ?? bundle());
        const failing = store.bundles.mutate(one, () => {
          throw new Error("changed my mind");
        });
        await expect(failing).rejects.toThrow("changed my mind");
        expect(await newChanges(before)).toEqual([]);
      });

      test("do not lose a concurrent change", async () => {
        await store.bundles.mutate(one, () => bundle({ refreshHint: 0 }));
        await Promise.all(
          Array.from({ length: 20 }, () =>
            store.bundles.mutate(one, (current) => bundle({ refreshHint: (current?.refreshHint ?? 0) + 1 })),
          ),
        );
        expect((await store.bundles.get(one))?.refreshHint).toBe(20);
      });

      test("are kept version by version where that is asked for", async () => {
        const at = (sequenceNumber: number) => ({
          ...bundle({ sequenceNumber }),
          jwtAuthorities: [
            { keyId: `k${sequenceNumber}`, publicKey: new Uint8Array(1), expiresAt: now, tainted: true },
          ],
        });
        const note = (reason: string) => ({ recordedAt: now, reason });
        expect(await store.bundles.versions(one)).toEqual([]);
        await store.bundles.mutate(two, () => ({ ...at(1), trustDomain: two }), note("another's"));
        await store.bundles.mutate(one, () => at(3));
        expect(await store.bundles.versions(one)).toEqual([]);
        await store.bundles.mutate(one, () => at(4), note("fourth"));
        await store.bundles.mutate(one, (current) => current ?? at(9), note("nothing"));
        await store.bundles.mutate(one, () => at(5), note("fifth"));
        await store.bundles.mutate(one, () => at(5), note("fifth again"));
        const versions = await store.bundles.versions(one);
        expect(
          versions.map(({ bundle: { sequenceNumber }, recordedAt, reason }) => [
            sequenceNumber,
            recordedAt,
            reason,
          ]),
        ).toEqual([
          [3, 0, ""],
          [4, now, "fourth"],
          [5, now, "fifth again"],
        ]);
        expect(versions.map((version) => version.bundle.jwtAuthorities[0])).toMatchObject([
          { keyId: "k3", tainted: true },
          { keyId: "k4", tainted: true },
          { keyId: "k5", tainted: true },
        ]);
      });

      test("lose the oldest versions", async () => {
        const note = { recordedAt: now, reason: "" };
        for (let sequenceNumber = 1; sequenceNumber <= keptVersions + 2; sequenceNumber += 1) {
          await store.bundles.mutate(one, () => bundle({ sequenceNumber }), note);
          if (sequenceNumber === keptVersions) {
            expect(await store.bundles.versions(one)).toHaveLength(keptVersions);
          }
        }
        const numbers = (await store.bundles.versions(one)).map((version) => version.bundle.sequenceNumber);
        expect([numbers[0], numbers.at(-1), numbers.length]).toEqual([3, keptVersions + 2, keptVersions]);
      });

      test("take their versions along when they go", async () => {
        await store.bundles.mutate(one, () => bundle(), { recordedAt: now, reason: "" });
        await store.bundles.delete(one, "restrict");
        expect(await store.bundles.versions(one)).toEqual([]);
      });

      test("are listed in pages", async () => {
        await addBundles();
        const pages = await allPages((page) => store.bundles.list(page), 1);
        expect(pages.map((page) => page.map((item) => item.trustDomain))).toEqual([[one], [two], []]);
      });

      test("that entries federate with are kept, or take the entries along, or let go of them", async () => {
        await addBundles();
        await create({ id: "a", spiffeId: id("/a"), federatesWith: [one, two] });
        await create({ id: "b", spiffeId: id("/b") });
        await expect(store.bundles.delete(one, "restrict")).rejects.toMatchObject({
          code: "FAILED_PRECONDITION",
          message: "cannot delete bundle; federated with 1 registration entries",
        });
        const before = await store.changes.latest();
        await store.bundles.delete(one, "dissociate");
        expect((await store.entries.get(["a"]))[0]).toMatchObject({
          federatesWith: [two],
          revisionNumber: 1,
        });
        await store.bundles.delete(two, "delete");
        expect(await store.entries.get(["a", "b"])).toMatchObject([undefined, { id: "b" }]);
        expect(await newChanges(before)).toEqual([
          "entry a",
          "bundle one.test",
          "entry a",
          "bundle two.test",
        ]);
        await expect(store.bundles.delete(one, "restrict")).rejects.toMatchObject({ code: "NOT_FOUND" });
        await store.bundles.mutate(one, () => bundle());
        await store.bundles.delete(one, "restrict");
        expect(await store.bundles.count()).toBe(0);
      });
    });

    describe("join tokens", () => {
      test("are taken by one caller only", async () => {
        await store.joinTokens.create({ token: "t", expiresAt: now });
        await expect(store.joinTokens.create({ token: "t", expiresAt: 1 })).rejects.toMatchObject({
          code: "ALREADY_EXISTS",
        });
        const taken = await Promise.all([1, 2, 3].map(() => store.joinTokens.take("t")));
        expect(taken.filter((token) => token !== undefined)).toEqual([{ token: "t", expiresAt: now }]);
        expect(await store.joinTokens.take("unknown")).toBeUndefined();
      });

      test("are pruned when expired", async () => {
        await store.joinTokens.create({ token: "old", expiresAt: now - 1 });
        await store.joinTokens.create({ token: "new", expiresAt: now });
        expect(await store.joinTokens.pruneExpired(now)).toBe(1);
        expect(await store.joinTokens.take("old")).toBeUndefined();
        expect(await store.joinTokens.take("new")).toEqual({ token: "new", expiresAt: now });
      });
    });

    test("a journal is found by any of its server's authorities and replaced by the next", async () => {
      expect(await store.journals.find(["a"])).toBeUndefined();
      await store.journals.put({ activeX509AuthorityId: "a", data: "1" }, undefined);
      await store.journals.put({ activeX509AuthorityId: "other", data: "x" }, undefined);
      await store.journals.put({ activeX509AuthorityId: "b", data: "2" }, "a");
      await store.journals.put({ activeX509AuthorityId: "b", data: "3" }, "b");
      expect(await store.journals.find(["a"])).toBeUndefined();
      expect(await store.journals.find(["a", "b"])).toEqual({ activeX509AuthorityId: "b", data: "3" });
      expect(await store.journals.find([])).toBeUndefined();
      expect((await store.journals.list()).map(({ data }) => data).sort()).toEqual(["3", "x"]);
      expect(await store.journals.delete("other")).toBe(true);
      expect(await store.journals.delete("other")).toBe(false);
      expect(await store.journals.list()).toEqual([{ activeX509AuthorityId: "b", data: "3" }]);
    });

    describe("agents' activity", () => {
      const seen = (path: string, lastSeenAt: number, bundleSequence: number) => ({
        id: id(path),
        lastSeenAt,
        bundleSequence,
      });

      test("is kept for agents that there are, and goes with them", async () => {
        const [a, b] = ["/spire/agent/a", "/spire/agent/b"] as const;
        await store.nodes.put(node());
        await store.agentActivity.put([seen(a, now, 3), seen(b, now, 4)]);
        expect(await store.agentActivity.list()).toEqual([seen(a, now, 3)]);
        await store.nodes.put(node({ id: id(b) }));
        await store.agentActivity.put([seen(b, now + 1, 5), seen(a, now + 1, 3)]);
        expect(await store.agentActivity.list()).toEqual([seen(a, now + 1, 3), seen(b, now + 1, 5)]);
        await store.nodes.put(node({ agentVersion: "2" }));
        expect(await store.agentActivity.list()).toHaveLength(2);
        await store.nodes.delete(id(a));
        await store.nodes.put(node());
        expect(await store.agentActivity.list()).toEqual([seen(b, now + 1, 5)]);
      });

      test("is no change that others are told of", async () => {
        await store.nodes.put(node());
        const since = await store.changes.latest();
        await store.agentActivity.put([seen("/spire/agent/a", now, 3)]);
        expect(await newChanges(since)).toEqual([]);
      });

      test("is kept of many agents at once", async () => {
        const ids = Array.from(
          { length: 2_500 },
          (_, number) => `/spire/agent/${String(number).padStart(4, "0")}`,
        );
        await Promise.all(ids.map((path) => store.nodes.put(node({ id: id(path) }))));
        const all = ids.map((path, number) => seen(path, now + number, number));
        await store.agentActivity.put(all);
        expect(await store.agentActivity.list()).toEqual(all);
      });
    });

    describe("horizons of SVIDs", () => {
      test("are raised and never lowered, each for itself, until they are over", async () => {
        const horizon = (authorityId: string, holders: string, expiresAt: number) => ({
          authorityId,
          holders,
          expiresAt,
        });
        await store.svidHorizons.raise(horizon("a", "x", now));
        await store.svidHorizons.raise(horizon("a", "y", now + 1));
        await store.svidHorizons.raise(horizon("b", "x", now + 2));
        await store.svidHorizons.raise(horizon("a", "x", now + 3));
        await store.svidHorizons.raise(horizon("b", "x", now));
        const listed = async () =>
          (await store.svidHorizons.list())
            .map(({ authorityId, holders, expiresAt }) => [authorityId, holders, expiresAt])
            .sort();
        expect(await listed()).toEqual([
          ["a", "x", now + 3],
          ["a", "y", now + 1],
          ["b", "x", now + 2],
        ]);
        await store.svidHorizons.prune(now + 2);
        expect(await listed()).toEqual([
          ["a", "x", now + 3],
          ["b", "x", now + 2],
        ]);
      });
    });

    describe("rotations", () => {
      test("are found by the newest, which is replaced as it goes on", async () => {
        expect(await store.rotations.latest()).toBeUndefined();
        await store.rotations.put({ id: "z", data: "1" });
        await store.rotations.put({ id: "a", data: "2" });
        await store.rotations.put({ id: "z", data: "3" });
        expect(await store.rotations.latest()).toEqual({ id: "a", data: "2" });
        await store.rotations.put({ id: "a", data: "4" });
        expect(await store.rotations.latest()).toEqual({ id: "a", data: "4" });
      });

      test("know the agents that have moved", async () => {
        const [a, b] = [id("/spire/agent/a"), id("/spire/agent/b")];
        await store.rotations.addMoved("1", [a]);
        await store.rotations.addMoved("1", [a, b]);
        await store.rotations.addMoved("2", [b]);
        expect([(await store.rotations.moved("1")).toSorted(), await store.rotations.moved("2")]).toEqual([
          [a, b],
          [b],
        ]);
        await store.rotations.clearMoved();
        expect(await store.rotations.moved("1")).toEqual([]);
      });
    });

    describe("the change feed", () => {
      test("names every committed change in order, and nothing else", async () => {
        expect(await store.changes.latest()).toBe(0);
        await create({ id: "e" });
        await create({ id: "e" });
        await store.entries.update([{ id: "e", fields: { hint: "x" } }]);
        await store.nodes.put(node());
        await store.nodes.update(node().id, { agentVersion: "2" });
        await store.bundles.mutate(one, () => bundle());
        await store.entries.delete(["e", "e"]);
        await store.nodes.delete(node().id);
        await store.joinTokens.create({ token: "t", expiresAt: now });
        expect(await newChanges(0)).toEqual([
          "entry e",
          "entry e",
          `node ${node().id}`,
          `node ${node().id}`,
          "bundle one.test",
          "entry e",
          `node ${node().id}`,
        ]);
        const all = await store.changes.after(0, 1000);
        const sequences = all.map(({ sequence }) => sequence);
        expect(sequences).toEqual([...sequences].sort((a, b) => a - b));
        expect(await store.changes.latest()).toBe(sequences.at(-1) ?? -1);
        expect(await store.changes.after(sequences[1] ?? 0, 2)).toEqual(all.slice(2, 4));
      });

      test("forgets what is pruned and goes on counting", async () => {
        await create({ id: "a", spiffeId: id("/a") });
        const latest = await store.changes.latest();
        await store.changes.prune(latest);
        expect(await store.changes.after(0, 10)).toEqual([]);
        expect(await store.changes.latest()).toBe(latest);
        await create({ id: "b", spiffeId: id("/b") });
        expect(await store.changes.latest()).toBeGreaterThan(latest);
      });
    });

    describe("transactions", () => {
      test("commit together", async () => {
        const value = await store.transaction(async (inside) => {
          await inside.joinTokens.create({ token: "t", expiresAt: now });
          const [outcome] = await inside.entries.create([draft({ id: "e" })], now);
          expect(await inside.entries.get(["e"])).toEqual([created(outcome)]);
          return 7;
        });
        expect(value).toBe(7);
        expect(await store.entries.count({})).toBe(1);
        expect(await store.joinTokens.take("t")).toBeDefined();
      });

      test("that throw leave nothing, the change feed included", async () => {
        const failing = store.transaction(async (inside) => {
          await inside.entries.create([draft()], now);
          await inside.bundles.mutate(one, () => bundle());
          throw new Error("no");
        });
        await expect(failing).rejects.toThrow("no");
        expect(await store.entries.count({})).toBe(0);
        expect(await store.bundles.count()).toBe(0);
        expect(await store.changes.latest()).toBe(0);
      });

      test("go on after a step that failed, without that step", async () => {
        await store.transaction(async (inside) => {
          await inside.joinTokens.create({ token: "t", expiresAt: now });
          await expect(inside.joinTokens.create({ token: "t", expiresAt: now })).rejects.toThrow();
          await inside.entries.create([draft({ id: "e" })], now);
        });
        expect(await store.entries.count({})).toBe(1);
      });

      test("are unseen until they commit, and other writes wait for them", async () => {
        const order: string[] = [];
        const inside = Promise.withResolvers<void>();
        const goOn = Promise.withResolvers<void>();
        const transaction = store.transaction(async (groups) => {
          await groups.entries.create([draft({ id: "in" })], now);
          inside.resolve();
          await goOn.promise;
          await groups.nodes.put(node());
          order.push("transaction");
        });
        await inside.promise;
        const seen = store.entries.count({});
        const written = store.entries
          .create([draft({ id: "out", spiffeId: id("/out") })], now)
          .then(() => order.push("write"));
        const second = store.transaction(async (groups) => {
          order.push("second transaction");
          expect(await groups.nodes.count({})).toBe(1);
        });
        goOn.resolve();
        await Promise.all([transaction, written, second]);
        // A store may answer from before the transaction or wait for it: never from the middle.
        expect([0, 1]).toContain(await seen);
        expect(order[0]).toBe("transaction");
        expect((await store.entries.get(["in", "out"])).every((entry) => entry !== undefined)).toBe(true);
      });

      test("that are rolled back were never seen outside", async () => {
        const inside = Promise.withResolvers<void>();
        const goOn = Promise.withResolvers<void>();
        const transaction = store.transaction(async (groups) => {
          await groups.entries.create([draft({ id: "in" })], now);
          inside.resolve();
          await goOn.promise;
          throw new Error("no");
        });
        await inside.promise;
        const seen = store.entries.count({});
        goOn.resolve();
        await expect(transaction).rejects.toThrow("no");
        expect(await seen).toBe(0);
      });

      test("refuse to be used after their end", async () => {
        let kept: Omit<Store, "transaction" | "close"> | undefined;
        await store.transaction(async (groups) => {
          kept = groups;
        });
        await expect(kept?.entries.count({})).rejects.toMatchObject({ code: "INTERNAL" });
      });

      test("and batches at the same time all get through", async () => {
        const writes = Array.from({ length: 40 }, (_, at) => {
          const entry = draft({ id: `e${at}`, spiffeId: id(`/${at}`) });
          return at % 3 === 0
            ? store.transaction((groups) => groups.entries.create([entry], now))
            : store.entries.create([entry], now);
        });
        await Promise.all(writes);
        expect(await store.entries.count({})).toBe(40);
        expect((await newChanges(0)).length).toBe(40);
      });
    });

    describe("federation relationships", () => {
      const spiffe: FederationRelationship["profile"] = {
        type: "https_spiffe",
        endpointSpiffeId: parseSpiffeId("spiffe://one.test/spire/server"),
      };

      test("are created once for a trust domain and read back as they were", async () => {
        const other = relationship({ trustDomain: two, profile: spiffe });
        await store.federation.create(relationship());
        await store.federation.create(other);
        await expect(store.federation.create(relationship({ profile: spiffe }))).rejects.toMatchObject({
          code: "ALREADY_EXISTS",
        });
        expect(await store.federation.get(one)).toEqual(relationship());
        expect(await store.federation.get(two)).toEqual(other);
        expect(await store.federation.get(parseTrustDomain("none.test"))).toBeUndefined();
      });

      test("are listed in the order of their creation, by pages", async () => {
        await store.federation.create(relationship({ trustDomain: two }));
        await store.federation.create(relationship());
        const pages = await allPages((page) => store.federation.list(page), 1);
        expect(pages.map((page) => page.map(({ trustDomain }) => trustDomain))).toEqual([[two], [one], []]);
        expect((await store.federation.list(everything)).items).toHaveLength(2);
        await expect(store.federation.list({ size: 1, token: "x" })).rejects.toMatchObject({
          code: "INTERNAL",
        });
      });

      test("are replaced and deleted, where they exist", async () => {
        expect(await store.federation.update(relationship())).toBe(false);
        expect(await store.federation.delete(one)).toBe(false);
        await store.federation.create(relationship());
        const changed = relationship({ bundleEndpointUrl: "https://one.test/new", profile: spiffe });
        expect(await store.federation.update(changed)).toBe(true);
        expect(await store.federation.get(one)).toEqual(changed);
        expect(await store.federation.delete(one)).toBe(true);
        expect(await store.federation.get(one)).toBeUndefined();
      });

      test("commit or fail together with the bundle that comes with them", async () => {
        const work = store.transaction(async (groups) => {
          await groups.bundles.mutate(one, () => bundle());
          await groups.federation.create(relationship());
          await groups.federation.create(relationship());
        });
        await expect(work).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
        expect(await store.federation.get(one)).toBeUndefined();
        expect(await store.bundles.get(one)).toBeUndefined();
      });
    });

    test("any sequence of entry operations ends as it does in memory", async () => {
      const operation = fc.record({
        kind: fc.constantFrom("create", "update", "delete"),
        id: fc.constantFrom("a", "b", "c", "d"),
        path: fc.constantFrom("/1", "/2"),
        values: fc.subarray(["x", "y"], { minLength: 1 }),
      });
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 20 }), async (operations) => {
          await store.entries.delete(["a", "b", "c", "d"]);
          const model = new Map<string, string>();
          for (const { kind, id: entryId, path, values } of operations) {
            const fields = { spiffeId: id(path), selectors: selectors(...values) };
            const key = `${path} ${values.join()}`;
            const similar = [...model].find(([, other]) => other === key)?.[0];
            if (kind === "create") {
              await store.entries.create([draft({ ...fields, id: entryId })], now);
              if (!similar && !model.has(entryId)) model.set(entryId, key);
            } else if (kind === "update") {
              await store.entries.update([{ id: entryId, fields }]);
              if (model.has(entryId) && (!similar || similar === entryId)) model.set(entryId, key);
            } else {
              expect(await store.entries.delete([entryId])).toEqual([model.delete(entryId)]);
            }
          }
          const { items } = await store.entries.list({}, everything);
          const stored = items.map((entry): [string, string] => [
            entry.id,
            `${entry.spiffeId.slice("spiffe://example.org".length)} ${entry.selectors.map(({ value }) => value).join()}`,
          ]);
          expect(new Map(stored)).toEqual(model);
          for (const [entryId, key] of model) {
            const found = await store.entries.list(
              {
                selectors: { selectors: selectors(...(key.split(" ")[1] ?? "").split(",")), match: "exact" },
              },
              everything,
            );
            expect(found.items.map((entry) => entry.id)).toContain(entryId);
          }
        }),
        { numRuns: 30 },
      );
    });

    test("refuses everything once closed, and closing twice does no harm", async () => {
      const closing = await open();
      await closing.close();
      await closing.close();
      await expect(closing.entries.count({})).rejects.toMatchObject({ code: "UNAVAILABLE" });
      await expect(closing.entries.delete(["x"])).rejects.toMatchObject({ code: "UNAVAILABLE" });
      await expect(closing.transaction(async () => 1)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    });
  });
}
