/** kill -9 of a server in the middle of its work: what was acknowledged is there, and nothing is half-written. */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import { createWorld, kill, listEntries, stop, type World } from "./world.ts";

const rounds = 8;
const clients = 4;
const batchSize = 50;
const firstOfRound = 1_000_000;

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

/** Lets clients create batches until `count` were acknowledged, then kills the server; returns all acknowledged ones. */
async function writeAndKill(first: number, count: number): Promise<readonly number[]> {
  const server = world.server();
  await server.ready();
  const script = join(import.meta.dir, "batch-writer.ts");
  const writer = world.run(
    [process.execPath, script, server.socket, String(first), String(clients), String(batchSize)],
    {},
  );
  for (let acknowledged = 0; acknowledged < count; acknowledged++) await writer.out.next();
  await kill(server);
  const said = (await writer.out.all()).trimEnd().split("\n");
  const reasons = said.filter((line) => !/^\d+$/.test(line));
  // Every client learned of it, and as what a client may try again.
  expect(reasons.map((reason) => reason.split(" ")[0])).toEqual(Array(clients).fill("UNAVAILABLE"));
  return said.filter((line) => /^\d+$/.test(line)).map(Number);
}

test(
  "batches acknowledged before kill -9 are there after the restart in full, and none is half there",
  async () => {
    const acknowledged: number[] = [];
    for (let round = 1; round <= rounds; round++) {
      const count = 1 + Math.floor(Math.random() * 60);
      acknowledged.push(...(await writeAndKill(round * firstOfRound, count)));

      const server = world.server();
      await server.ready();
      const sizes = new Map<number, number>();
      for (const { id } of await listEntries(world.dial(server.socket))) {
        const batch = Number(id.split("-")[0]);
        sizes.set(batch, (sizes.get(batch) ?? 0) + 1);
      }
      expect([...sizes].filter(([, size]) => size !== batchSize)).toEqual([]);
      expect(acknowledged.filter((batch) => !sizes.has(batch))).toEqual([]);
      await stop(server);
      const database = new Database(join(server.dataDir, "datastore.sqlite3"), { readonly: true });
      expect(database.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
      database.close();
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(rounds);
  },
  { timeout: 180_000 },
);
