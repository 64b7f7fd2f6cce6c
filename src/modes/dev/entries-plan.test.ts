import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { systemClock } from "../../core/clock.ts";
import type { Entry } from "../../core/entry.ts";
import { nullLogger } from "../../core/log.ts";
import { makeSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import type { Store } from "../../plugins/datastores/index.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { createRegistry, type Registry } from "../../server/registry.ts";
import { declareEntry } from "./declared-entries.ts";
import { parseEntriesFile } from "./entries-file.ts";
import { applyPlan, planEntries } from "./entries-plan.ts";

const trustDomain = parseTrustDomain("example.org");
const owner = { trustDomain, agentId: makeSpiffeId(trustDomain, "/spire/agent/join_token/t") };

let store: Store;
let registry: Registry;
let owned: readonly string[];

beforeEach(async () => {
  store = await createSqliteStore({ path: ":memory:", clock: systemClock });
  registry = await createRegistry({ store, trustDomain, clock: systemClock, log: nullLogger });
  owned = [];
});

afterEach(async () => {
  await registry.close();
  await store.close();
});

const current = async (): Promise<Entry[]> =>
  (await store.entries.get(owned)).filter((entry) => entry !== undefined);

async function apply(text: string): Promise<void> {
  const { entries } = parseEntriesFile(text, "f", owner);
  owned = await applyPlan(registry, planEntries(await current(), entries));
}

async function all(): Promise<string[]> {
  const { items } = await registry.listEntries({}, { size: 0, token: "" });
  return items
    .map(
      ({ spiffeId, selectors, x509SvidTtl }) =>
        `${spiffeId} ${selectors.map((s) => s.value.slice("uid:".length))} ${x509SvidTtl}`,
    )
    .sort();
}

const web = (ttl: number, uid = 1) =>
  `- {spiffe_id: /web, selectors: [unix:uid:${uid}], x509_svid_ttl: ${ttl}}\n`;
const db = "- {spiffe_id: /db, selectors: [unix:uid:2]}\n";
const file = (...entries: string[]) => (entries.length === 0 ? "{}" : `entries:\n${entries.join("")}`);

describe("an edit is applied as a difference", () => {
  test("entries come, change in place and go", async () => {
    await apply(file(web(10), db));
    expect(await all()).toEqual(["spiffe://example.org/db 2 0", "spiffe://example.org/web 1 10"]);
    const [webId, dbId] = owned;
    await apply(file(db, web(20)));
    expect([...owned].sort()).toEqual([webId, dbId].map(String).sort());
    expect(await all()).toEqual(["spiffe://example.org/db 2 0", "spiffe://example.org/web 1 20"]);
    await apply(file(web(20)));
    expect(await all()).toEqual(["spiffe://example.org/web 1 20"]);
    await apply(file());
    expect(await all()).toEqual([]);
  });

  test("what did not change keeps its revision", async () => {
    await apply(file(web(10), db));
    await apply(file(web(11), db));
    const entries = await current();
    expect(entries.map(({ revisionNumber }) => revisionNumber).sort()).toEqual([0, 1]);
  });

  test("an identity whose selectors change keeps its entry", async () => {
    await apply(file(web(10, 1)));
    const [id] = owned;
    await apply(file(web(10, 9)));
    expect(owned).toEqual([String(id)]);
    expect(await all()).toEqual(["spiffe://example.org/web 9 10"]);
  });

  test("an entry that was deleted by hand comes back with the next edit", async () => {
    await apply(file(web(10)));
    await registry.deleteEntries(owned);
    await apply(file(web(10)));
    expect(await all()).toEqual(["spiffe://example.org/web 1 10"]);
  });
});

describe("only entries of the file are touched", () => {
  test("an equal entry of somebody else's stays when the file lets go of it", async () => {
    const id = makeSpiffeId(trustDomain, "/web");
    await registry.createEntries([declareEntry(id, [{ type: "unix", value: "uid:1" }], owner)]);
    await apply(file(web(0)));
    expect(owned).toEqual([]);
    await apply(file());
    expect(await all()).toEqual(["spiffe://example.org/web 1 0"]);
  });
});

describe("what the server refuses changes nothing", () => {
  const federating = "- {spiffe_id: /f, selectors: [unix:uid:3], federates_with: [unknown.test]}\n";

  test("a refused new entry", async () => {
    await apply(file(web(10), db));
    await expect(apply(file(web(99), federating))).rejects.toThrow(/^f:3:3: .*unknown\.test/);
    expect(await all()).toEqual(["spiffe://example.org/db 2 0", "spiffe://example.org/web 1 10"]);
  });

  test("a refused update, after others were made", async () => {
    await apply(file(web(10), db));
    const broken = "- {spiffe_id: /db, selectors: [unix:uid:2], federates_with: [unknown.test]}\n";
    const added = "- {spiffe_id: /new, selectors: [unix:uid:4]}\n";
    await expect(apply(file(web(99), broken, added))).rejects.toThrow(/^f:3:3: /);
    expect(await all()).toEqual(["spiffe://example.org/db 2 0", "spiffe://example.org/web 1 10"]);
  });
});
