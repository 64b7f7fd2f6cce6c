/** Clients that open thousands of streams and go, or stay and never read: the others are served as before. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { dialUnix } from "../../src/rpc/dial.ts";
import type { X509SVIDResponse } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { DevReady, Running } from "../dev/program.ts";
import { entryMessage, idMessage } from "../server/running.ts";
import { createWorld, kill, openStream, pathsOf, stop, uid, type World } from "./world.ts";

const timeout = 120_000;
const mebibyte = 1024 * 1024;
const connections = 4;
const streams = 500;

let world: World;
let running: Running;
let ready: DevReady;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

async function start(wrap: readonly string[] = []): Promise<void> {
  ({ running, ready } = await world.dev(["--entry", `/web=unix:uid:${uid}`], { wrap }));
}

/** Opens `connections` × `streams` streams at once in a process of its own; resolves when they are. */
async function hoard(how: "first" | "no-window" | "nothing"): Promise<Running> {
  const script = join(import.meta.dir, "stream-hoarder.ts");
  const args = [ready.workload_api_socket, how, String(connections), String(streams)];
  const hoarder = world.run([process.execPath, script, ...args]);
  await hoarder.out.next((line) => line === "open");
  return hoarder;
}

/** A new client gets its SVID. */
async function expectServed(): Promise<void> {
  const channel = dialUnix(ready.workload_api_socket);
  const stream = openStream(channel);
  expect(pathsOf(await stream.next())).toContain("/web");
  await stream.close();
  channel.close();
}

const descriptors = (): number => readdirSync(`/proc/${running.pid}/fd`).length;

/** Resident memory, bytes. */
const memory = (): number =>
  1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${running.pid}/status`, "utf8"))?.[1]);

/** Waits, with a served client for each look, until no more descriptors are open than before. */
async function untilBackAt(before: number): Promise<void> {
  do {
    await expectServed();
  } while (descriptors() > before);
}

/** Waits for the garbage to be collected; memory that is still referred to never goes, and the test hangs on it. */
async function untilMemoryIsBelow(bytes: number): Promise<void> {
  while (memory() >= bytes) await expectServed();
}

describe("2,000 streams opened at once on 4 connections", () => {
  test.each(["first", "no-window", "nothing"] as const)(
    "and abandoned by the death of a client that read: %s",
    async (how) => {
      await start();
      await expectServed();
      const before = descriptors();
      const fresh = memory();
      for (let round = 1; round <= 20; round++) {
        const hoarder = await hoard(how);
        await expectServed();
        await kill(hoarder);
        await untilBackAt(before);
      }
      // What 40,000 streams leave behind is garbage, not state: 1.2 KiB each is less than a message alone.
      await untilMemoryIsBelow(fresh + 48 * mebibyte);
      await stop(running);
      expect(await running.err.all()).toBe("");
    },
    { timeout },
  );

  test("need no more descriptors than their connections", async () => {
    await start(["prlimit", "--nofile=100:100"]);
    const hoarder = await hoard("first");
    await expectServed();
    await kill(hoarder);
    await expectServed();
    await stop(running);
    expect(await running.err.all()).toBe("");
  });

  test.each(["no-window", "nothing"] as const)(
    "whose client stays and reads %s, while entries change 200 times",
    async (how) => {
      await start();
      const local = world.dial(ready.server_socket).client(EntryService);
      const reader = openStream(world.dial(ready.workload_api_socket));
      await reader.next();
      const hoarder = await hoard(how);
      await expectServed();
      const before = memory();
      let most = before;
      const hasName = (path: string) => (update: X509SVIDResponse) => pathsOf(update).includes(path);
      for (let change = 1; change <= 200; change++) {
        const entry = entryMessage({
          id: "changing",
          spiffeId: idMessage(`/changing/${change}`),
          parentId: idMessage(new URL(ready.agent_id).pathname),
          selectors: [{ type: "unix", value: `uid:${uid}` }],
        });
        const changed =
          change === 1
            ? await local.batchCreateEntry({ entries: [entry], outputMask: undefined })
            : await local.batchUpdateEntry({ entries: [entry], inputMask: undefined, outputMask: undefined });
        expect(changed.results[0]?.status?.message).toBe("OK");
        await reader.until(hasName(`/changing/${change}`));
        most = Math.max(most, memory());
      }
      // A queue of 200 messages of 3 kB for each of 2,000 streams would be 1.2 GB.
      expect(most - before).toBeLessThan(200 * mebibyte);
      await expectServed();
      await kill(hoarder);
      await expectServed();
      await stop(running);
      expect(await running.err.all()).toBe("");
    },
    { timeout },
  );
});
