import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";

const rounds = 10;
const batchSize = 50;
const firstOfRound = 1_000_000;

const directory = mkdtempSync(join(tmpdir(), "spire-crash-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs the writer until it has acknowledged `count` batches, then kills it without warning; returns all it said. */
async function writeAndKill(path: string, first: number, count: number): Promise<number[]> {
  const script = join(import.meta.dir, "writer.ts");
  const child = Bun.spawn([process.execPath, script, path, String(first), String(batchSize)], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let said = "";
  let killed = false;
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    said += chunk;
    if (killed || said.split("\n").length <= count) continue;
    killed = true;
    child.kill("SIGKILL");
  }
  await child.exited;
  // A last line without its end may be cut short.
  return said.split("\n").slice(0, -1).map(Number);
}

test(
  "after kill -9 every acknowledged batch is there in full, and none is half there",
  async () => {
    const path = join(directory, "datastore.sqlite3");
    const acknowledged: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const count = 1 + Math.floor(Math.random() * 40);
      acknowledged.push(...(await writeAndKill(path, round * firstOfRound, count)));

      const store = await createSqliteStore({ path, clock: systemClock });
      const { items } = await store.entries.list({}, { size: 0, token: "" });
      const changes = await store.changes.after(0, Number.MAX_SAFE_INTEGER);
      const selected = await store.entries.count({
        selectors: { selectors: [{ type: "unix", value: "uid:0" }], match: "any" },
      });
      await store.close();

      const sizes = new Map<number, number>();
      for (const { id } of items) {
        const batch = Number(id.slice(0, id.indexOf("-")));
        sizes.set(batch, (sizes.get(batch) ?? 0) + 1);
      }
      expect([...sizes.values()].every((size) => size === batchSize)).toBe(true);
      expect(acknowledged.filter((batch) => !sizes.has(batch))).toEqual([]);
      expect(selected).toBe(items.length);
      expect(new Set(changes.map(({ key }) => key))).toEqual(new Set(items.map(({ id }) => id)));
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(rounds);
  },
  { timeout: 120_000 },
);
