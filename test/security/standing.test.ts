/** An agent that is banned or evicted gets nothing more, whatever it had under way. */
import { afterEach, describe, expect, test } from "bun:test";
import { createManualClock } from "../../src/core/clock.ts";
import { draftEntry } from "../../src/core/entry.ts";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import type { AttestedNode } from "../../src/core/node.ts";
import { parseSpiffeId } from "../../src/core/spiffe-id.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";
import { createAccess } from "../../src/rpc/access.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { Call } from "../../src/rpc/service.ts";
import { createAccessLookups } from "../../src/server/callers.ts";
import { createRegistry, type Registry } from "../../src/server/registry.ts";
import { startTestServer, type TestServer, trustDomain } from "../server/running.ts";

const agentId = parseSpiffeId("spiffe://example.org/spire/agent/a");
const now = 1_800_000_000;
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const node: AttestedNode = {
  id: agentId,
  attestationType: "join_token",
  serialNumber: "1",
  expiresAt: now + 3_600,
  newSerialNumber: "2",
  newExpiresAt: now + 3_600,
  canReattest: false,
  agentVersion: "",
  selectors: [],
};

async function openRegistry() {
  const clock = createManualClock(now * 1_000);
  const store = await createSqliteStore({ path: ":memory:", clock });
  const registry = await createRegistry({ store, trustDomain, clock, log: nullLogger });
  closers.push(
    () => store.close(),
    () => registry.close(),
  );
  await registry.putNode(node);
  return { clock, registry };
}

const svid = (serialNumber: string) => ({ id: agentId, chain: [], serialNumber, expiresAt: now + 3_600 });

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "accepted",
    (error: unknown) => SpireError.from(error).code,
  );

describe("the first use of a renewed SVID", () => {
  /** The registry, with `work` done between the look at memory and the transaction that follows it. */
  const interrupted = (registry: Registry, work: () => Promise<unknown>): Registry => ({
    ...registry,
    store: {
      ...registry.store,
      async transaction(run) {
        await work();
        return registry.store.transaction(run);
      },
    },
  });

  test.each([
    ["banned", (registry: Registry) => registry.banAgent(agentId)],
    ["evicted", (registry: Registry) => registry.deleteAgent(agentId)],
    ["renewed once more", (registry: Registry) => registry.updateNode(agentId, { newSerialNumber: "3" })],
  ])("is refused when the agent is %s at that moment", async (_, change) => {
    const { clock, registry } = await openRegistry();
    const lookups = createAccessLookups({
      registry: interrupted(registry, () => change(registry)),
      adminIds: [],
      clock,
    });
    expect(await codeOf(lookups.agent(svid("2")))).toBe("PERMISSION_DENIED");
  });

  test("is accepted, also twice at the same moment", async () => {
    const { clock, registry } = await openRegistry();
    const lookups = createAccessLookups({ registry, adminIds: [], clock });
    expect(await Promise.all([codeOf(lookups.agent(svid("2"))), codeOf(lookups.agent(svid("2")))])).toEqual([
      "accepted",
      "accepted",
    ]);
  });
});

test("a call that waited for its turn is judged again when it comes", async () => {
  const { clock, registry } = await openRegistry();
  const before = createAccess({
    lookups: createAccessLookups({ registry, adminIds: [], clock }),
    clock,
    rateLimit: { attestation: true, signing: true },
  });
  const call: Call = {
    method: "/spire.api.server.svid.v1.SVID/BatchNewX509SVID",
    caller: { transport: "tcp", address: "192.0.2.1:1", svid: svid("1") },
    metadata: () => [],
    signal: new AbortController().signal,
    log: nullLogger,
    note() {},
    onAnswered() {},
  };
  const batch = { params: new Array(500).fill({}) };
  await before(call, batch);
  const waiting = codeOf(Promise.resolve(before(call, batch)));
  // In line before it is banned.
  await clock.advance(100);
  await registry.banAgent(agentId);
  await clock.advance(1_000);
  expect(await waiting).toBe("PERMISSION_DENIED");
});

test("an admin or downstream entry that has expired gives no rights until it is pruned", async () => {
  const { clock, registry } = await openRegistry();
  const spiffeId = parseSpiffeId("spiffe://example.org/admin");
  await registry.createEntries([
    draftEntry({
      spiffeId,
      parentId: agentId,
      selectors: [{ type: "unix", value: "uid:0" }],
      admin: true,
      downstream: true,
      expiresAt: now + 60,
    }),
  ]);
  const lookups = createAccessLookups({ registry, adminIds: [], clock });
  expect([lookups.admin(spiffeId), lookups.downstream(spiffeId)]).toEqual([true, true]);
  await clock.advance(61_000);
  expect(registry.index.entriesBySpiffeId(spiffeId).length).toBe(1);
  expect([lookups.admin(spiffeId), lookups.downstream(spiffeId)]).toEqual([false, false]);
});

describe("a sync that stands open", () => {
  let running: TestServer;

  test.each([
    ["banned", (id: typeof agentId) => running.server.registry.banAgent(id)],
    ["evicted", (id: typeof agentId) => running.server.registry.deleteAgent(id)],
  ])("ends when its agent is %s", async (_, turnAway) => {
    running = await startTestServer();
    closers.push(() => running.close());
    const agent = await running.attest();
    await running.server.registry.createEntries(
      Array.from({ length: 501 }, (_, number) =>
        draftEntry({
          id: `e${number}`,
          spiffeId: running.idOf(`/w/${number}`),
          parentId: agent.id,
          selectors: [{ type: "unix", value: `uid:${number}` }],
        }),
      ),
    );
    const conversation = agent.channel.client(EntryService).syncAuthorizedEntries();
    await conversation.send({ outputMask: undefined, ids: [] });
    expect((await conversation.receive())?.entryRevisions.length).toBe(500);
    expect((await conversation.receive())?.more).toBe(false);
    await conversation.send({ outputMask: undefined, ids: ["e1"] });
    expect((await conversation.receive())?.entries.map(({ id }) => id)).toEqual(["e1"]);
    await turnAway(agent.id);
    await conversation.send({ outputMask: undefined, ids: ["e2"] });
    expect(await codeOf(conversation.receive())).toBe("PERMISSION_DENIED");
  });
});
