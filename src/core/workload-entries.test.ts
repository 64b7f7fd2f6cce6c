import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Entry } from "./entry.ts";
import { formatSelector, type Selector } from "./selector.ts";
import { parseSpiffeId } from "./spiffe-id.ts";
import { createWorkloadEntries, uniqueHints } from "./workload-entries.ts";

const make = (id: string, selectors: readonly Selector[], hint = "", createdAt = 0): Entry => ({
  id,
  spiffeId: parseSpiffeId("spiffe://example.org/w"),
  parentId: parseSpiffeId("spiffe://example.org/spire/agent/a"),
  selectors,
  x509SvidTtl: 0,
  jwtSvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  hint,
  createdAt,
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
});

const all: Selector[] = ["1", "2", "3", "4", "5"].map((value) => ({ type: "unix", value }));
const ids = ["a", "b", "c", "d", "e", "f"];

const step = fc.oneof(
  fc.record({
    kind: fc.constant("put" as const),
    id: fc.constantFrom(...ids),
    selectors: fc.subarray(all, { minLength: 1 }),
  }),
  fc.record({ kind: fc.constant("delete" as const), id: fc.constantFrom(...ids) }),
);

describe("workload entries", () => {
  test("match what a scan over all entries finds, after every change", () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 25 }),
        fc.array(fc.subarray(all), { maxLength: 6 }),
        (steps, asked) => {
          const index = createWorkloadEntries();
          const entries = new Map<string, Entry>();
          for (const change of steps) {
            if (change.kind === "put") {
              const entry = make(change.id, change.selectors);
              index.put(entry);
              entries.set(entry.id, entry);
            } else {
              index.delete(change.id);
              entries.delete(change.id);
            }
            for (const selectors of asked) {
              const held = new Set(selectors.map(formatSelector));
              const expected = [...entries.values()]
                .filter((entry) => entry.selectors.every((selector) => held.has(formatSelector(selector))))
                .sort((a, b) => (a.id < b.id ? -1 : 1));
              expect(index.match(selectors)).toEqual(expected);
            }
            expect(index.size).toBe(entries.size);
          }
        },
      ),
    );
  });

  test("a workload without selectors matches nothing", () => {
    const index = createWorkloadEntries();
    index.put(make("a", all.slice(0, 1)));
    expect(index.match([])).toEqual([]);
  });
});

describe("hints", () => {
  test("of entries with the same hint the oldest stays, at equal age the smaller ID", () => {
    const entries = [
      make("a", all, "db", 2),
      make("b", all, "db", 1),
      make("c", all, "db", 1),
      make("d", all, "web", 9),
    ];
    expect(uniqueHints(entries).map(({ id }) => id)).toEqual(["b", "d"]);
  });

  test("entries without a hint all stay, in order", () => {
    const entries = [make("c", all), make("a", all, "x"), make("b", all)];
    expect(uniqueHints(entries)).toEqual(entries);
  });
});
