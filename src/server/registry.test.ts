import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createManualClock, type ManualClock } from "../core/clock.ts";
import { draftEntry, type EntryDraft } from "../core/entry.ts";
import { nullLogger } from "../core/log.ts";
import type { AttestedNode } from "../core/node.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import type { Store } from "../plugins/datastores/index.ts";
import { createSqliteStore } from "../plugins/datastores/sqlite/store.ts";
import { createRegistry, type Registry } from "./registry.ts";

const startSeconds = 1_800_000_000;
const trustDomain = parseTrustDomain("example.org");
const other = parseTrustDomain("other.test");
const id = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const agentA = id("/spire/agent/a");
const agentB = id("/spire/agent/b");

const draft = (fields: Partial<EntryDraft> = {}): EntryDraft =>
  draftEntry({
    id: "",
    spiffeId: id("/web"),
    parentId: agentA,
    selectors: [{ type: "unix", value: "uid:0" }],
    ...fields,
  });

const node = (agentId: SpiffeId, fields: Partial<AttestedNode> = {}): AttestedNode => ({
  id: agentId,
  attestationType: "join_token",
  serialNumber: "1",
  expiresAt: startSeconds + 3600,
  newSerialNumber: "",
  newExpiresAt: 0,
  canReattest: false,
  agentVersion: "",
  selectors: [],
  ...fields,
});

describe("the registry", () => {
  let clock: ManualClock;
  let store: Store;
  let registry: Registry;
  let told: string[];
  let logged: Set<string>;

  const log = { ...nullLogger, info: (message: string) => void logged.add(message) };
  /** Background work takes turns of the event loop of its own, so time goes on until it has shown itself. */
  const advanceUntilLogged = async (message: string) => {
    while (!logged.has(message)) await clock.advance(60_000);
  };
  const openRegistry = async (options: { pollIntervalMs?: number } = {}) => {
    const opened = await createRegistry({ store, trustDomain, clock, log, ...options });
    opened.onChange(({ agents }) => told.push(agents === "all" ? "all" : [...agents].sort().join()));
    return opened;
  };

  beforeEach(async () => {
    clock = createManualClock(startSeconds * 1000);
    store = await createSqliteStore({ path: ":memory:", clock });
    told = [];
    logged = new Set();
    registry = await openRegistry();
  });
  afterEach(async () => {
    await registry.close();
    await store.close();
  });

  const create = async (fields: Partial<EntryDraft> = {}) => {
    const [outcome] = await registry.createEntries([draft(fields)]);
    if (!outcome || "error" in outcome) throw outcome?.error ?? new Error("no outcome");
    return outcome.entry;
  };
  const refusal = async (fields: Partial<EntryDraft>) => {
    const [outcome] = await registry.createEntries([draft(fields)]);
    return outcome && "error" in outcome ? `${outcome.error.code} ${outcome.error.message}` : "accepted";
  };
  const ownedBy = (agentId: SpiffeId) => registry.index.forAgent(agentId).map((entry) => entry.id);

  describe("about entries", () => {
    test("has what it wrote in memory when the write resolves, and told the owner", async () => {
      await create({ id: "e" });
      expect(ownedBy(agentA)).toEqual(["e"]);
      await registry.updateEntries([{ id: "e", fields: { parentId: agentB } }]);
      expect(ownedBy(agentA)).toEqual([]);
      expect(ownedBy(agentB)).toEqual(["e"]);
      expect(await registry.deleteEntries(["e", "e"])).toEqual([true, false]);
      expect(ownedBy(agentB)).toEqual([]);
      expect(told).toEqual([agentA, `${agentA},${agentB}`, agentB]);
    });

    test("tells nobody when nothing changed or nobody is concerned", async () => {
      await create({ id: "e", parentId: id("/nobody") });
      await create({ id: "e2", parentId: id("/nobody") });
      expect(told).toEqual([]);
    });

    test("tells a batch's agents once", async () => {
      await registry.createEntries([
        draft({ spiffeId: id("/1") }),
        draft({ spiffeId: id("/2") }),
        draft({ spiffeId: id("/3"), parentId: agentB }),
      ]);
      expect(told).toEqual([`${agentA},${agentB}`]);
    });

    test("refuses some of a batch and takes the rest, in order", async () => {
      const outcomes = await registry.createEntries([
        draft({ id: "a", spiffeId: id("/a") }),
        draft({ selectors: [] }),
        draft({ id: "b", spiffeId: id("/a") }),
        draft({ id: "c", spiffeId: id("/c") }),
      ]);
      expect(outcomes).toMatchObject([
        { entry: { id: "a" }, existing: false },
        { error: { code: "INVALID_ARGUMENT" } },
        { entry: { id: "a" }, existing: true },
        { entry: { id: "c" }, existing: false },
      ]);
    });

    const convert = "INVALID_ARGUMENT failed to convert entry";
    const invalid =
      "INVALID_ARGUMENT failed to create entry: datastore-validation: invalid registration entry";
    const refusals: [string, Partial<EntryDraft>, string][] = [
      [
        "a parent elsewhere",
        { parentId: parseSpiffeId("spiffe://other.test/x") },
        `${convert}: invalid parent ID: "spiffe://other.test/x" is not a member of trust domain "example.org"`,
      ],
      [
        "a parent without a path",
        { parentId: id("") },
        `${convert}: invalid parent ID: "spiffe://example.org" is not a member of trust domain "example.org"; path is empty`,
      ],
      [
        "an ID elsewhere",
        { spiffeId: parseSpiffeId("spiffe://other.test/x") },
        `${convert}: invalid spiffe ID: "spiffe://other.test/x" is not a member of trust domain "example.org"`,
      ],
      [
        "an ID without a path",
        { spiffeId: id("") },
        `${convert}: invalid spiffe ID: "spiffe://example.org" is not a workload in trust domain "example.org"; path is empty`,
      ],
      [
        "a reserved ID",
        { spiffeId: agentB },
        `${convert}: invalid spiffe ID: "${agentB}" is not a workload in trust domain "example.org"; path is in the reserved namespace`,
      ],
      ["no selectors", { selectors: [] }, `${convert}: selector list is empty`],
      [
        "a selector without a type",
        { selectors: [{ type: "", value: "x" }] },
        `${convert}: missing selector type`,
      ],
      [
        "a selector without a value",
        { selectors: [{ type: "x", value: "" }] },
        `${convert}: missing selector value`,
      ],
      [
        "a selector type with a colon",
        { selectors: [{ type: "a:b", value: "x" }] },
        `${convert}: selector type contains ':'`,
      ],
      [
        "the same selector twice",
        {
          selectors: [
            { type: "a", value: "1" },
            { type: "a", value: "1" },
          ],
        },
        'ALREADY_EXISTS failed to create entry: selector "a:1" is given twice',
      ],
      [
        "the same DNS name twice",
        { dnsNames: ["a.test", "a.test"] },
        'ALREADY_EXISTS failed to create entry: DNS name "a.test" is given twice',
      ],
      [
        "a DNS name with a space",
        { dnsNames: ["a b"] },
        `${convert}: invalid DNS name: idna error\nidna: invalid label "a b"`,
      ],
      ["an empty DNS name", { dnsNames: [""] }, `${convert}: invalid DNS name: empty or only whitespace`],
      [
        "a long hint",
        { hint: "h".repeat(1025) },
        `${convert}: hint is too long, max length is 1024 characters`,
      ],
      ["an expiry below zero", { expiresAt: -1 }, `${convert}: expiry is below zero`],
      ["an expiry in the past", { expiresAt: 1000 }, `${convert}: expiry is in the past`],
      ["an X.509 TTL below zero", { x509SvidTtl: -1 }, `${invalid}: X509SvidTtl is not set`],
      ["a JWT TTL below zero", { jwtSvidTtl: -1 }, `${invalid}: JwtSvidTtl is not set`],
      ["an ID with a slash", { id: "a/b" }, `${invalid}: entry ID contains invalid characters`],
      ["an ID with a space", { id: "a b" }, `${invalid}: entry ID contains invalid characters`],
      ["a long ID", { id: "x".repeat(256) }, `${invalid}: entry ID too long`],
      [
        "selectors of two types in a stored SVID",
        {
          storeSvid: true,
          selectors: [
            { type: "a", value: "1" },
            { type: "b", value: "2" },
          ],
        },
        `${invalid}: selector types must be the same when store SVID is enabled`,
      ],
      [
        "an unknown federated bundle",
        { federatesWith: [other] },
        'INTERNAL failed to create entry: unable to find federated bundle "spiffe://other.test"',
      ],
      [
        "federation with the own trust domain",
        { federatesWith: [trustDomain] },
        `${convert}: invalid federated trust domain: "example.org" is the server's own trust domain, which every workload trusts already`,
      ],
    ];
    test.each(refusals)("refuses %s", async (_, fields, message) => {
      expect(await refusal(fields)).toBe(message);
    });

    test("refuses an ID in use", async () => {
      await create({ id: "own-id" });
      expect(await refusal({ id: "own-id", spiffeId: id("/own2") })).toStartWith(
        "ALREADY_EXISTS failed to create entry: ",
      );
    });

    test("accepts what is unusual but right", async () => {
      expect(await refusal({ spiffeId: id("/nodey"), parentId: id("/spire/server") })).toBe("accepted");
      expect(await refusal({ spiffeId: id("/k"), selectors: [{ type: "k8s", value: "a:b:c" }] })).toBe(
        "accepted",
      );
      expect(await refusal({ spiffeId: id("/h"), x509SvidTtl: 2_147_483_647, id: "a.b" })).toBe("accepted");
      expect(await refusal({ spiffeId: id("/w"), dnsNames: ["*.a.test", "x.a.test"] })).toBe("accepted");
    });

    test("checks an update by the same rules, together with what stands", async () => {
      await create({
        id: "e",
        selectors: [
          { type: "a", value: "1" },
          { type: "b", value: "2" },
        ],
      });
      await create({ id: "twin", spiffeId: id("/twin") });
      const update = async (entryId: string, fields: Partial<EntryDraft>) => {
        const [outcome] = await registry.updateEntries([{ id: entryId, fields }]);
        return outcome && "error" in outcome
          ? `${outcome.error.code} ${outcome.error.message}`
          : `revision ${outcome?.entry.revisionNumber}`;
      };
      const invalidUpdate =
        "INVALID_ARGUMENT failed to update entry: datastore-validation: invalid registration entry";
      expect(await update("nope", { hint: "x" })).toBe("NOT_FOUND failed to update entry");
      expect(await update("e", { selectors: [] })).toBe(`${convert}: selector list is empty`);
      expect(await update("e", { x509SvidTtl: -1 })).toBe(`${invalidUpdate}: X509SvidTtl is not set`);
      expect(await update("e", { storeSvid: true })).toBe(
        `${invalidUpdate}: selector types must be the same when store SVID is enabled`,
      );
      expect(await update("e", { federatesWith: [other] })).toBe(
        'INTERNAL failed to update entry: unable to find federated bundle "spiffe://other.test"',
      );
      expect(
        await update("e", { spiffeId: id("/twin"), selectors: [{ type: "unix", value: "uid:0" }] }),
      ).toBe("ALREADY_EXISTS failed to update entry: similar entry already exists");
      expect(await update("e", {})).toBe("revision 1");
      expect(await update("e", { hint: "x" })).toBe("revision 2");
    });

    test("prunes the expired ones every five minutes and tells their agents", async () => {
      await create({ id: "e", expiresAt: startSeconds + 60 });
      expect(ownedBy(agentA)).toEqual(["e"]);
      await advanceUntilLogged("Pruned an expired registration");
      expect(ownedBy(agentA)).toEqual([]);
      expect(told).toEqual([agentA, agentA]);
    });
  });

  describe("about join tokens", () => {
    test("lets one agent in, once", async () => {
      const { token, expiresAt } = await registry.createJoinToken({ ttlSeconds: 60 });
      expect(token).toMatch(/^[0-9a-f-]{36}$/);
      expect(expiresAt).toBe(startSeconds + 60);
      await registry.redeemJoinToken(token);
      const refused = {
        code: "INVALID_ARGUMENT",
        message: "failed to attest: join token does not exist or has already been used",
      };
      await expect(registry.redeemJoinToken(token)).rejects.toMatchObject(refused);
      await expect(registry.redeemJoinToken("unknown")).rejects.toMatchObject(refused);
    });

    test("refuses an expired one, and then forgets it", async () => {
      await registry.createJoinToken({ token: "t", ttlSeconds: 1 });
      await clock.advance(1_500);
      await expect(registry.redeemJoinToken("t")).rejects.toMatchObject({ message: "join token expired" });
      await expect(registry.redeemJoinToken("t")).rejects.toThrow("does not exist");
    });

    test("prunes those that nobody used", async () => {
      await registry.createJoinToken({ token: "t", ttlSeconds: 60 });
      await advanceUntilLogged("Pruned expired join tokens");
      expect(await store.joinTokens.take("t")).toBeUndefined();
    });

    test("refuses bad requests without a trace", async () => {
      const create = registry.createJoinToken;
      await expect(create({ ttlSeconds: 0 })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: "ttl is required, you must provide one",
      });
      await expect(
        create({ ttlSeconds: 60, agentId: parseSpiffeId("spiffe://other.test/x") }),
      ).rejects.toThrow(
        'invalid agent ID: "spiffe://other.test/x" is not a member of trust domain "example.org"',
      );
      await expect(create({ ttlSeconds: 60, agentId: agentA })).rejects.toThrow(
        "path is in the reserved namespace",
      );
      await expect(create({ token: "a b", ttlSeconds: 60 })).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
      });
      await create({ token: "custom-token", ttlSeconds: 60 });
      await expect(
        create({ token: "custom-token", ttlSeconds: 60, agentId: id("/node") }),
      ).rejects.toMatchObject({
        code: "INTERNAL",
        message: expect.stringContaining("failed to create token"),
      });
      expect(await registry.countEntries({})).toBe(0);
    });

    test("give their agent a further ID, which goes with the agent", async () => {
      const { token } = await registry.createJoinToken({ ttlSeconds: 60, agentId: id("/node") });
      const agent = id(`/spire/agent/join_token/${token}`);
      await registry.putNode(node(agent));
      await create({ id: "below", parentId: id("/node") });
      await create({ id: "own", spiffeId: id("/own"), parentId: agent });
      const granted = registry.index.entriesBySpiffeId(id("/node"))[0];
      expect(granted).toMatchObject({
        parentId: agent,
        selectors: [{ type: "spiffe_id", value: agent }],
      });
      expect(ownedBy(agent).sort()).toEqual(["below", granted?.id ?? "", "own"].sort());
      await registry.deleteAgent(agent);
      expect(ownedBy(agent)).toEqual(["own"]);
    });
  });

  describe("about agents", () => {
    test("bans: both serials blank, listed still", async () => {
      await registry.putNode(node(agentA, { newSerialNumber: "2", newExpiresAt: 9 }));
      await registry.banAgent(agentA);
      expect(registry.index.node(agentA)).toMatchObject({ serialNumber: "", newSerialNumber: "" });
      expect(await registry.countNodes({ banned: true })).toBe(1);
      expect(told).toEqual([agentA, agentA]);
    });

    test("knows no agent that was never there", async () => {
      const missing = { code: "NOT_FOUND", message: "agent not found" };
      await expect(registry.banAgent(agentA)).rejects.toMatchObject(missing);
      await expect(registry.deleteAgent(agentA)).rejects.toMatchObject(missing);
      await expect(registry.updateNode(agentA, {})).rejects.toMatchObject(missing);
    });

    test("doesn't wake an agent because its SVID was renewed", async () => {
      await registry.putNode(node(agentA));
      const renewed = await registry.updateNode(agentA, { newSerialNumber: "2", newExpiresAt: 9 });
      expect(registry.index.node(agentA)).toEqual(renewed);
      expect(told).toEqual([agentA]);
    });

    test("purges those that a filter matches", async () => {
      await registry.putNode(node(agentA, { expiresAt: startSeconds - 1 }));
      await registry.putNode(node(agentB));
      const purged = await registry.purgeAgents({ expiresBefore: startSeconds });
      expect(purged.map((gone) => gone.id)).toEqual([agentA]);
      expect(registry.index.node(agentA)).toBeUndefined();
      expect(registry.index.node(agentB)).toBeDefined();
    });

    test("gives node aliases to agents with their selectors, and takes them back", async () => {
      const selectors = [{ type: "x509pop", value: "cn:1" }];
      await registry.putNode(node(agentA, { selectors }));
      await create({ id: "alias", spiffeId: id("/group"), parentId: id("/spire/server"), selectors });
      await create({ id: "web", parentId: id("/group") });
      expect(ownedBy(agentA)).toEqual(["web"]);
      told.length = 0;
      await registry.deleteEntries(["alias"]);
      expect(ownedBy(agentA)).toEqual([]);
      expect(told).toEqual([agentA]);
    });
  });

  test("tells of a bundle those whom it concerns", async () => {
    await registry.mutateBundle(other, () => emptyBundle(other));
    await create({ id: "e", federatesWith: [other] });
    told.length = 0;
    await registry.mutateBundle(other, (bundle) => ({ ...(bundle ?? emptyBundle(other)), refreshHint: 9 }));
    await registry.mutateBundle(trustDomain, () => emptyBundle(trustDomain));
    expect(told).toEqual([agentA, "all"]);
    expect(registry.bundles.get(other)?.refreshHint).toBe(9);
    await expect(registry.deleteBundle(other, "restrict")).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
    });
    await registry.deleteBundle(other, "dissociate");
    expect(registry.bundles.has(other)).toBe(false);
    expect(registry.index.entry("e")).toMatchObject({ federatesWith: [], revisionNumber: 1 });
    expect(told).toEqual([agentA, "all", agentA]);
  });

  describe("beside another server on the same store", () => {
    test("starts from what is there", async () => {
      await create({ id: "e" });
      await registry.putNode(node(agentA));
      await registry.mutateBundle(other, () => emptyBundle(other));
      const second = await openRegistry();
      expect(second.index.forAgent(agentA).map((entry) => entry.id)).toEqual(["e"]);
      expect(second.index.node(agentA)).toBeDefined();
      expect(second.bundles.has(other)).toBe(true);
      await second.close();
    });

    test("sees the other's writes at its next look", async () => {
      const second = await openRegistry({ pollIntervalMs: 1_000 });
      const seen = new Promise<void>((resolve) => {
        second.onChange(() => resolve());
      });
      await create({ id: "e" });
      await clock.advance(1_500);
      await seen;
      expect(second.index.entry("e")).toBeDefined();
      await second.close();
    });

    test("reads everything anew when it is further behind than the feed reaches back", async () => {
      await create({ id: "gone", spiffeId: id("/gone") });
      await registry.putNode(node(agentB));
      const second = await openRegistry();
      await registry.deleteEntries(["gone"]);
      await registry.deleteAgent(agentB);
      await create({ id: "a", spiffeId: id("/a") });
      await store.changes.prune((await store.changes.latest()) - 1);
      await create({ id: "b", spiffeId: id("/b") });
      told.length = 0;
      await second.catchUp();
      expect(second.index.forAgent(agentA).map((entry) => entry.id)).toEqual(["a", "b"]);
      expect(second.index.nodeCount).toBe(0);
      expect(told).toEqual(["all"]);
      await second.close();
    });
  });

  test("goes on telling others when a listener throws", async () => {
    const calls: string[] = [];
    registry.onChange(() => {
      throw new Error("broken listener");
    });
    const stop = registry.onChange(() => calls.push("told"));
    await create({ id: "a", spiffeId: id("/a") });
    stop();
    await create({ id: "b", spiffeId: id("/b") });
    expect(calls).toEqual(["told"]);
  });
});
