import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createAuthorizedEntries } from "./authorized-entries.ts";
import type { Entry } from "./entry.ts";
import type { AttestedNode } from "./node.ts";
import { formatSelector, type Selector } from "./selector.ts";
import { parseSpiffeId, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";

const id = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const server = id("/spire/server");
const agents = ["/spire/agent/a", "/spire/agent/b", "/spire/agent/c"].map(id);
const workloads = ["/u", "/v", "/w", "/x"].map(id);
const selectorValues = ["1", "2", "3"];
const trustDomains = ["one.test", "two.test"] as TrustDomain[];

const entry = (fields: Partial<Entry> & Pick<Entry, "id">): Entry => ({
  spiffeId: id("/u"),
  parentId: id("/spire/agent/a"),
  selectors: [{ type: "s", value: "1" }],
  x509SvidTtl: 0,
  jwtSvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  hint: "",
  createdAt: 0,
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
  ...fields,
});

const node = (agentId: SpiffeId, selectors: readonly Selector[]): AttestedNode => ({
  id: agentId,
  attestationType: "test",
  serialNumber: "1",
  expiresAt: 0,
  newSerialNumber: "",
  newExpiresAt: 0,
  canReattest: false,
  agentVersion: "",
  selectors,
});

/** The definition, taken literally: scans everything until nothing new is found. */
function bruteForce(entries: Iterable<Entry>, nodes: Iterable<AttestedNode>, agentId: SpiffeId): Entry[] {
  const all = [...entries];
  const has = new Set([...nodes].find((known) => known.id === agentId)?.selectors.map(formatSelector));
  const names = new Set([agentId]);
  for (const alias of all) {
    if (alias.parentId !== server) continue;
    if (alias.selectors.every((selector) => has.has(formatSelector(selector)))) names.add(alias.spiffeId);
  }
  const found = new Set<Entry>();
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const candidate of all) {
      if (candidate.parentId === server || !names.has(candidate.parentId)) continue;
      found.add(candidate);
      names.add(candidate.spiffeId);
    }
  }
  return [...found].sort((a, b) => (a.id < b.id ? -1 : 1));
}

const arbitrarySelectors = fc
  .subarray(selectorValues, { minLength: 1 })
  .map((values) => values.map((value) => ({ type: "s", value })));

const arbitraryEntry = fc
  .record({
    id: fc.constantFrom("e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"),
    spiffeId: fc.constantFrom(...workloads),
    parentId: fc.constantFrom(server, ...agents, ...workloads),
    selectors: arbitrarySelectors,
    federatesWith: fc.subarray(trustDomains),
  })
  .map(entry);

const arbitraryStep = fc.oneof(
  { weight: 6, arbitrary: arbitraryEntry.map((value) => ({ kind: "putEntry" as const, value })) },
  {
    weight: 2,
    arbitrary: fc
      .constantFrom("e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7")
      .map((value) => ({ kind: "deleteEntry" as const, value })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(...agents), fc.subarray(selectorValues)).map(([agentId, values]) => ({
      kind: "putNode" as const,
      value: node(
        agentId,
        values.map((value) => ({ type: "s", value })),
      ),
    })),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...agents).map((value) => ({ kind: "deleteNode" as const, value })),
  },
);

describe("authorized entries", () => {
  test("equal the brute-force answer after every change", () => {
    fc.assert(
      fc.property(fc.array(arbitraryStep, { minLength: 1, maxLength: 40 }), (steps) => {
        const index = createAuthorizedEntries();
        const entries = new Map<string, Entry>();
        const nodes = new Map<SpiffeId, AttestedNode>();
        const answers = () =>
          new Map(agents.map((agent) => [agent, bruteForce(entries.values(), nodes.values(), agent)]));

        for (const step of steps) {
          const before = answers();
          let told: ReadonlySet<SpiffeId> = new Set();
          if (step.kind === "putEntry") {
            told = index.putEntry(step.value);
            entries.set(step.value.id, step.value);
          } else if (step.kind === "deleteEntry") {
            told = index.deleteEntry(step.value);
            entries.delete(step.value);
          } else if (step.kind === "putNode") {
            index.putNode(step.value);
            told = new Set([step.value.id]);
            nodes.set(step.value.id, step.value);
          } else {
            index.deleteNode(step.value);
            told = new Set([step.value]);
            nodes.delete(step.value);
          }
          const after = answers();
          for (const agent of agents) {
            const expected = after.get(agent) ?? [];
            expect(index.forAgent(agent)).toEqual(expected);
            if (JSON.stringify(before.get(agent)) !== JSON.stringify(expected)) {
              expect([...told]).toContain(agent);
            }
            for (const known of entries.values()) {
              const owned = expected.includes(known);
              expect(index.lookup(agent, known.id)).toBe(owned ? known : undefined);
              if (known.parentId !== server) expect(index.agentsOf(known.id).has(agent)).toBe(owned);
            }
            for (const trustDomain of trustDomains) {
              expect(index.agentsFederatingWith(trustDomain).has(agent)).toBe(
                expected.some(({ federatesWith }) => federatesWith.includes(trustDomain)),
              );
            }
          }
          expect(index.entryCount).toBe(entries.size);
          expect(index.nodeCount).toBe(nodes.size);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("an entry granted by a join token is delivered, and what hangs below it", () => {
    const index = createAuthorizedEntries();
    const agent = id("/spire/agent/join_token/t");
    index.putEntry(
      entry({
        id: "granted",
        spiffeId: id("/node"),
        parentId: agent,
        selectors: [{ type: "spiffe_id", value: agent }],
      }),
    );
    index.putEntry(entry({ id: "below", spiffeId: id("/w"), parentId: id("/node") }));
    expect(index.forAgent(agent).map((owned) => owned.id)).toEqual(["below", "granted"]);
  });

  test("a node alias is not delivered, its descendants are", () => {
    const index = createAuthorizedEntries();
    const agent = id("/spire/agent/x509pop/1");
    index.putNode(node(agent, [{ type: "x509pop", value: "cn:1" }]));
    index.putEntry(
      entry({
        id: "alias",
        spiffeId: id("/group"),
        parentId: server,
        selectors: [{ type: "x509pop", value: "cn:1" }],
      }),
    );
    index.putEntry(entry({ id: "web", spiffeId: id("/web"), parentId: id("/group") }));
    expect(index.forAgent(agent).map((owned) => owned.id)).toEqual(["web"]);
    expect(index.lookup(agent, "alias")).toBeUndefined();
    expect([...index.agentsOf("alias")]).toEqual([agent]);
  });

  test("entries that are each other's parents end the walk", () => {
    const index = createAuthorizedEntries();
    index.putEntry(entry({ id: "a", spiffeId: id("/u"), parentId: id("/v") }));
    index.putEntry(entry({ id: "b", spiffeId: id("/v"), parentId: id("/u") }));
    index.putEntry(entry({ id: "c", spiffeId: id("/u"), parentId: id("/u") }));
    expect(index.forAgent(agents[0] ?? server)).toEqual([]);
    index.putEntry(entry({ id: "d", spiffeId: id("/v"), parentId: id("/spire/agent/a") }));
    expect(index.forAgent(id("/spire/agent/a")).map((owned) => owned.id)).toEqual(["a", "b", "c", "d"]);
  });
});
