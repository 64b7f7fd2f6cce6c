import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
  until,
} from "../../test/server/authority-fixture.ts";
import { SpireError } from "../core/errors.ts";
import { nullLogger } from "../core/log.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import type { AgentActivity } from "../plugins/datastores/index.ts";
import type { Call, PeerSvid } from "../rpc/service.ts";
import { type ActivityBook, createActivityBook } from "./agent-activity.ts";
import type { Registry } from "./registry.ts";

const agent = makeSpiffeId(trustDomain, "/spire/agent/a");

let fixture: AuthorityFixture;
let books: ActivityBook[];
let writes: (readonly AgentActivity[])[];
/** What a write fails with; undefined = it succeeds. */
let failure: SpireError | undefined;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  books = [];
  writes = [];
  failure = undefined;
  await addAgent();
});
afterEach(async () => {
  for (const book of books) await book.close();
  await fixture.close();
});

const addAgent = () =>
  fixture.registry.putNode({
    id: agent,
    attestationType: "t",
    serialNumber: "1",
    expiresAt: startSeconds + hour,
    newSerialNumber: "2",
    newExpiresAt: startSeconds + 2 * hour,
    canReattest: false,
    agentVersion: "",
    selectors: [],
  });

async function open(): Promise<ActivityBook> {
  const { agentActivity } = fixture.registry.store;
  const put = async (activities: readonly AgentActivity[]) => {
    writes.push(activities);
    if (failure) throw failure;
    await agentActivity.put(activities);
  };
  const store = { ...fixture.registry.store, agentActivity: { ...agentActivity, put } };
  const registry: Registry = { ...fixture.registry, store };
  const book = await createActivityBook({ registry, clock: fixture.clock, log: nullLogger });
  books.push(book);
  return book;
}

const peer = (fields: Partial<PeerSvid> = {}): PeerSvid => ({
  id: agent,
  chain: [],
  serialNumber: "1",
  expiresAt: startSeconds + hour,
  ...fields,
});

/** A call whose fate a test decides. */
function callOf(svid?: PeerSvid): { call: Call; answered: (delivered: boolean) => void } {
  const listeners: ((delivered: boolean) => void)[] = [];
  const call: Call = {
    method: "/spire.api.server.bundle.v1.Bundle/GetBundle",
    caller: { transport: "tcp", address: "192.0.2.1:1", ...(svid ? { svid } : {}) },
    metadata: () => [],
    signal: new AbortController().signal,
    log: nullLogger,
    note() {},
    onAnswered: (listener) => void listeners.push(listener),
  };
  return { call, answered: (delivered) => listeners.forEach((listener) => void listener(delivered)) };
}

function sendBundle(book: ActivityBook, sequence: number, delivered: boolean, svid?: PeerSvid): void {
  const { call, answered } = callOf(svid);
  book.bundleSent(call, sequence);
  answered(delivered);
}

describe("when an agent was last seen", () => {
  test("is kept without a write for each call, and written within 15 s", async () => {
    const book = await open();
    const connection = peer();
    for (let call = 0; call < 1_000; call += 1) book.called(connection);
    expect(book.of(agent).lastSeenAt).toBe(startSeconds);
    await fixture.clock.advance(14_000);
    expect(writes).toEqual([]);
    await fixture.clock.advance(1_000);
    expect(writes).toEqual([[{ id: agent, lastSeenAt: startSeconds, bundleSequence: 0 }]]);
    await fixture.clock.advance(60_000);
    expect(writes).toHaveLength(1);
  });

  test("outlives a restart, and all but the last 15 s a crash", async () => {
    const first = await open();
    first.called(peer());
    await first.close();
    expect((await open()).of(agent).lastSeenAt).toBe(startSeconds);
    fixture.clock.jump(5_000);
    (await open()).called(peer());
    expect((await open()).of(agent).lastSeenAt).toBe(startSeconds);
  });

  test("is written again when it couldn't be", async () => {
    const book = await open();
    failure = new SpireError("RESOURCE_EXHAUSTED", "the disk is full");
    book.called(peer());
    await fixture.clock.advance(15_000);
    expect(writes).toHaveLength(1);
    failure = undefined;
    await fixture.clock.advance(30_000);
    await until(() => writes.length === 2);
    expect(writes[1]).toEqual(writes[0] ?? []);
  });

  test("goes with the agent", async () => {
    const book = await open();
    book.called(peer());
    await book.flush();
    await fixture.registry.deleteAgent(agent);
    await addAgent();
    expect(book.of(agent).lastSeenAt).toBe(0);
    expect((await open()).of(agent).lastSeenAt).toBe(0);
  });
});

describe("the bundle that an agent has", () => {
  test("is the last one whose answer was delivered", async () => {
    const book = await open();
    let progress = 0;
    book.onProgress(() => {
      progress += 1;
    });
    const connection = peer();
    sendBundle(book, 3, false, connection);
    expect(book.of(agent)).toMatchObject({ bundleSequence: 0, lastSeenAt: startSeconds });
    const before = progress;
    sendBundle(book, 3, true, connection);
    expect([book.of(agent).bundleSequence, progress]).toEqual([3, before + 1]);
    sendBundle(book, 2, true, peer());
    expect(book.of(agent).bundleSequence).toBe(3);
  });

  test.each([
    ["without a certificate", undefined],
    ["with a certificate that was replaced", peer({ serialNumber: "0" })],
    ["with a certificate that has expired", peer({ expiresAt: startSeconds })],
    ["that is no agent", peer({ id: makeSpiffeId(trustDomain, "/workload") })],
  ])("doesn't come from a caller %s", async (_, svid) => {
    const book = await open();
    sendBundle(book, 3, true, svid);
    expect(book.of(agent).bundleSequence).toBe(0);
    expect(book.of(svid?.id ?? agent).lastSeenAt).toBe(0);
  });

  test("may come with a renewed certificate, and not to a banned agent", async () => {
    const book = await open();
    sendBundle(book, 3, true, peer({ serialNumber: "2" }));
    expect(book.of(agent).bundleSequence).toBe(3);
    await fixture.registry.banAgent(agent);
    sendBundle(book, 4, true, peer());
    expect(book.of(agent).bundleSequence).toBe(3);
  });

  test("is lost with an agent that is evicted while the answer is on its way", async () => {
    const book = await open();
    const { call, answered } = callOf(peer());
    book.bundleSent(call, 3);
    await fixture.registry.deleteAgent(agent);
    answered(true);
    expect(book.of(agent)).toEqual({ lastSeenAt: 0, bundleSequence: 0, svid: undefined });
  });
});
