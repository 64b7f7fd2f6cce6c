/** Who may call the services that SPIRE doesn't have: they move authorities, and name agents. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { AgentActivityService } from "../../src/rpc/gen/spire/server/activity/v1/activity.ts";
import { BundleHistoryService } from "../../src/rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import { RotationService } from "../../src/rpc/gen/spire/server/rotation/v1/rotation.ts";
import { entryMessage, idMessage, startTestServer, type TestServer } from "../server/running.ts";

let running: TestServer;
let callers: Readonly<Record<string, Channel>>;
beforeAll(async () => {
  running = await startTestServer({ adminIds: [] });
  const entries = [
    entryMessage({ spiffeId: idMessage("/admin"), admin: true }),
    entryMessage({ spiffeId: idMessage("/downstream"), downstream: true }),
    entryMessage({ spiffeId: idMessage("/web") }),
  ];
  await running.local.client(EntryService).batchCreateEntry({ entries, outputMask: undefined });
  const dial = async (path: string) => running.dial(await running.mint(path));
  callers = {
    anonymous: running.anonymous,
    agent: (await running.attest()).channel,
    downstream: await dial("/downstream"),
    workload: await dial("/web"),
    admin: await dial("/admin"),
    local: running.local,
  };
});
afterAll(() => running.close());

const start = { kinds: ["nothing"], emergency: false, ignoreMinted: false, ignoreDownstream: false };

async function firstOf(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream) return;
}

const rotation: Readonly<Record<string, (channel: Channel) => Promise<unknown>>> = {
  StartRotation: (channel) => channel.client(RotationService).startRotation(start),
  GetRotation: (channel) => channel.client(RotationService).getRotation({}),
  WatchRotation: (channel) => firstOf(channel.client(RotationService).watchRotation({})),
  StopRotation: (channel) => channel.client(RotationService).stopRotation({}),
  ResumeRotation: (channel) => channel.client(RotationService).resumeRotation({}),
  UndoRotation: (channel) => channel.client(RotationService).undoRotation({}),
  ListAgentActivity: (channel) =>
    channel.client(AgentActivityService).listAgentActivity({ pageSize: 0, pageToken: "" }),
};
const history: typeof rotation = {
  ListVersions: (channel) => channel.client(BundleHistoryService).listVersions({}),
  RestoreVersion: (channel) => channel.client(BundleHistoryService).restoreVersion({ sequenceNumber: 1 }),
};

/** `in` for a call that was let in, whatever came of it; otherwise the code of the refusal. */
async function outcome(call: (channel: Channel) => Promise<unknown>, caller: string): Promise<string> {
  const channel = callers[caller];
  if (!channel) throw new Error(`no caller ${caller}`);
  try {
    await call(channel);
    return "in";
  } catch (error) {
    const { code } = SpireError.from(error);
    return code === "PERMISSION_DENIED" || code === "UNIMPLEMENTED" ? code : "in";
  }
}

describe("rotation and agents' activity are for administrators and the server's own machine:", () => {
  test.each(Object.entries(rotation))("%s", async (_, call) => {
    for (const caller of ["anonymous", "agent", "downstream", "workload"]) {
      expect([caller, await outcome(call, caller)]).toEqual([caller, "PERMISSION_DENIED"]);
    }
    for (const caller of ["admin", "local"])
      expect([caller, await outcome(call, caller)]).toEqual([caller, "in"]);
  });
});

test("who watches a rotation sees no more of it once the right to is gone", async () => {
  const { client } = running.local;
  const entry = entryMessage({ spiffeId: idMessage("/leaving-admin"), admin: true });
  const { results } = await client(EntryService).batchCreateEntry({
    entries: [entry],
    outputMask: undefined,
  });
  // Waits for the agent, which fetches nothing.
  await client(RotationService).startRotation({ ...start, kinds: ["x509"] });
  const watch = async (channel: Channel) => {
    const stream = channel.client(RotationService).watchRotation({})[Symbol.asyncIterator]();
    expect((await stream.next()).value?.stage).toBe("distributing");
    return stream;
  };
  const leaving = await watch(running.dial(await running.mint("/leaving-admin")));
  const staying = await watch(running.local);
  await client(EntryService).batchDeleteEntry({ ids: results.map(({ entry }) => entry?.id ?? "") });
  const after = async () => {
    while (!(await leaving.next()).done);
  };
  expect(SpireError.from(await after().catch((error) => error)).code).toBe("PERMISSION_DENIED");
  await client(RotationService).stopRotation({});
  let last: boolean | undefined;
  for (let next = await staying.next(); !next.done; next = await staying.next()) last = next.value.stopped;
  expect(last).toBe(true);
  await client(RotationService).undoRotation({});
});

describe("the bundle's history is for the server's own machine:", () => {
  test.each(Object.entries(history))("%s", async (_, call) => {
    for (const caller of ["anonymous", "agent", "downstream", "workload", "admin"]) {
      expect([caller, await outcome(call, caller)]).toEqual([caller, "UNIMPLEMENTED"]);
    }
    expect(await outcome(call, "local")).toBe("in");
  });
});
