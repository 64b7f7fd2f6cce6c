/** A disk that is full: what fails says so, nothing is lost or half-written, and room is all that is needed to go on. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { generateKey } from "../../src/core/keys.ts";
import { issueSelfSignedCa } from "../../src/core/x509/issue.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { failureOf } from "../server/failure.ts";
import { entryMessage, idMessage } from "../server/running.ts";
import { createSmallDisk, type SmallDisk } from "./small-disk.ts";
import { expectSigning, expectWhole, fetchBundle } from "./soundness.ts";
import {
  agentPathOf,
  cameTo,
  createToken,
  createWorld,
  exampleOrg,
  firstUpdate,
  grant,
  kill,
  listEntries,
  openStream,
  pathsOf,
  type ServerProcess,
  stop,
  type World,
} from "./world.ts";

const timeout = 120_000;
const page = 4_096;
const mebibyte = 1024 * 1024;

let world: World;
let disk: SmallDisk;
beforeEach(async () => {
  world = createWorld();
  disk = await createSmallDisk(world, 32 * mebibyte);
});
afterEach(() => world.close());

describe("under a server", () => {
  const batchSize = 50;
  const start = () => world.server("disk/server", { wrap: disk.wrap });

  const createBatch = async (channel: Channel, batch: number) => {
    const entries = Array.from({ length: batchSize }, (_, at) =>
      entryMessage({ id: `${batch}-${at}`, spiffeId: idMessage(`/batch/${batch}/${at}`) }),
    );
    const { results } = await channel
      .client(EntryService)
      .batchCreateEntry({ entries, outputMask: undefined });
    return results.map(({ status }) => status?.message);
  };

  /** Numbers of the batches that are there, all of them whole. */
  async function batchesOf(channel: Channel): Promise<readonly number[]> {
    const sizes = new Map<number, number>();
    for (const { id } of await listEntries(channel)) {
      const batch = Number(id.split("-")[0]);
      sizes.set(batch, (sizes.get(batch) ?? 0) + 1);
    }
    expect([...sizes.values()].filter((size) => size !== batchSize)).toEqual([]);
    return [...sizes.keys()].sort((a, b) => a - b);
  }

  test(
    "creates entries until there is no room, says so, serves on, and goes on creating when there is",
    async () => {
      const server = start();
      await server.ready();
      const local = world.dial(server.socket);
      disk.fill(64 * page);
      const created: number[] = [];
      let refusal: unknown;
      for (let batch = 1; refusal === undefined; batch++) {
        try {
          expect(new Set(await createBatch(local, batch))).toEqual(new Set(["OK"]));
          created.push(batch);
        } catch (error) {
          refusal = error;
        }
      }
      const message = expect.stringMatching(
        /datastore .*: database or disk is full; make room on its file system/,
      );
      expect(refusal).toMatchObject({ code: "RESOURCE_EXHAUSTED", message });
      // Several at once share a transaction.
      const others = await Promise.all(
        [1001, 1002, 1003].map((batch) => failureOf(createBatch(local, batch))),
      );
      for (const other of others) expect(other).toMatchObject({ code: "RESOURCE_EXHAUSTED", message });
      expect(await batchesOf(local)).toEqual(created);
      await expectSigning(local);

      disk.free();
      expect(new Set(await createBatch(local, 2001))).toEqual(new Set(["OK"]));
      created.push(2001);
      expect(await batchesOf(local)).toEqual(created);

      // Also for who opens the database anew, after an end without warning.
      disk.fill(16 * page);
      await failureOf(createBatch(local, 3001).then(() => createBatch(local, 3002)));
      const there = await batchesOf(local);
      await kill(server);
      disk.free();
      const next = start();
      await next.ready();
      expect(await batchesOf(world.dial(next.socket))).toEqual(there);
      await stop(next);
      expectWhole(disk.copyOut("server"));
    },
    { timeout },
  );

  test(
    "that starts for the first time, with any room too small: one error, and nothing in the way of the next start",
    async () => {
      for (let spare = 0; ; spare++) {
        disk.fill(spare * page);
        const server = start();
        if (await cameTo(server.ready())) {
          await kill(server);
          break;
        }
        expect(await server.ended).toBe(1);
        const errors = (await server.out.all()).split("\n").filter((line) => line.includes("level=error"));
        expect(errors).toHaveLength(1);
        expect(errors[0]).toMatch(
          /(disk is full|ENOSPC).*make room|disk I\/O error; see whether its file system is full/,
        );
        disk.free();
      }
      disk.free();
      const server = start();
      await server.ready();
      await expectSigning(world.dial(server.socket));
      await stop(server);
      expectWhole(disk.copyOut("server"));
    },
    { timeout },
  );
});

describe("under an agent", () => {
  let server: ServerProcess;
  let port: number;
  let local: Channel;
  let bundle: string;
  beforeEach(async () => {
    server = world.server();
    port = await server.ready();
    local = world.dial(server.socket);
    bundle = world.path("bundle.pem");
    const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
    await Bun.write(bundle, await shown.out.all());
  });

  const start = (token?: string) =>
    world.agent({
      port,
      bundle,
      dataDir: join(disk.path, "agent"),
      wrap: disk.wrap,
      ...(token !== undefined && { token }),
    });

  async function newToken(): Promise<string> {
    const token = await createToken(local);
    // In the disk's namespace this user is root.
    await grant(local, agentPathOf(token), "/web", { selectors: [{ type: "unix", value: "gid:0" }] });
    return token;
  }

  test("at its first start: an error, and the token is still good", async () => {
    const token = await newToken();
    disk.fill(0);
    const failing = start(token);
    expect(await failing.ended).toBe(1);
    expect(await failing.out.all()).toMatch(/key file .*ENOSPC.*make room on its file system/);
    disk.free();
    const next = start(token);
    expect(pathsOf(await firstUpdate(world, next))).toEqual(["/web"]);
    await stop(next);
    expectWhole(disk.copyOut("agent"));
  });

  test("when the token has just been used up: the agent works, and saves itself as soon as it can", async () => {
    const token = await newToken();
    // Room for the keys, and none for the SVID.
    disk.fill(page);
    const agent = start(token);
    expect(pathsOf(await firstUpdate(world, agent))).toEqual(["/web"]);
    await agent.out.next((line) => /Failed to save the agent's state.*ENOSPC.*make room/.test(line));
    expect(readdirSync(join(disk.outside, "agent"))).toEqual(["keys.json"]);
    disk.free();
    const stream = openStream(world.dial(agent.socket));
    await stream.next();
    // The next synchronisation brings the entry, and begins with what was left undone.
    await grant(local, agentPathOf(token), "/later", { selectors: [{ type: "unix", value: "gid:0" }] });
    await stream.until((update) => pathsOf(update).includes("/later"));
    await kill(agent);
    const next = start();
    expect(pathsOf(await firstUpdate(world, next))).toEqual(["/later", "/web"]);
    await stop(next);
    expectWhole(disk.copyOut("agent"));
  });

  test(
    "that learns of a new authority: workloads are told, and the state is saved when there is room",
    async () => {
      const token = await newToken();
      const agent = start(token);
      await firstUpdate(world, agent);
      const stream = openStream(world.dial(agent.socket));
      const before = await stream.next();
      disk.fill(0);
      const key = await generateKey("ec-p256");
      const now = Math.floor(Date.now() / 1000);
      const { der } = await issueSelfSignedCa({ key, trustDomain: exampleOrg, ttlSeconds: 3_600 }, now);
      const added = { asn1: Buffer.from(der), tainted: false };
      await local.client(BundleService).appendBundle({
        x509Authorities: [added],
        jwtAuthorities: [],
        witAuthorities: [],
        outputMask: undefined,
      });
      const bundleSize = (update: typeof before) => update.svids[0]?.bundle.length ?? 0;
      await stream.until((update) => bundleSize(update) > bundleSize(before));
      expect((await fetchBundle(local)).x509Authorities).toHaveLength(2);
      await agent.out.next((line) => /Failed to save the agent's state.*ENOSPC/.test(line));
      disk.free();
      await grant(local, agentPathOf(token), "/later", { selectors: [{ type: "unix", value: "gid:0" }] });
      await stream.until((update) => pathsOf(update).includes("/later"));
      await kill(agent);
      const data = await Bun.file(join(disk.outside, "agent", "agent-data.json")).json();
      expect(data.bundle).toHaveLength(2);
      expectWhole(disk.copyOut("agent"));
    },
    { timeout },
  );
});
