/** Damage to a database at rest, and another process that uses a database in use. */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock } from "../../../core/clock.ts";
import { draftEntry } from "../../../core/entry.ts";
import { SpireError } from "../../../core/errors.ts";
import { parseSpiffeId } from "../../../core/spiffe-id.ts";
import { sealPathOf } from "./seal.ts";
import { createSqliteStore } from "./store.ts";

const clock = createManualClock(1_800_000_000_000);

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-seal-"));
  path = join(directory, "datastore.sqlite3");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const open = (onDamage?: (error: SpireError) => void) =>
  createSqliteStore({ path, clock, ...(onDamage ? { onDamage } : {}) });

async function fill(count = 3): Promise<void> {
  const store = await open();
  const drafts = Array.from({ length: count }, (_, at) =>
    draftEntry({
      id: `entry-${at}`,
      spiffeId: parseSpiffeId(`spiffe://example.org/${at}`),
      parentId: parseSpiffeId("spiffe://example.org/spire/agent/a"),
      selectors: [{ type: "unix", value: `uid:${at}` }],
      hint: "a hint that is in no index",
    }),
  );
  await store.entries.create(drafts, 7);
  await store.close();
}

const failureOf = (work: Promise<unknown>): Promise<SpireError> =>
  work.then(
    () => Promise.reject(new Error("it did not fail")),
    (error) => SpireError.from(error),
  );

function flip(at: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
  writeFileSync(path, bytes);
}

describe("a database that was closed", () => {
  test("is one file with a seal of its own, which sha256sum can check", async () => {
    await fill();
    expect(readdirSync(directory).sort()).toEqual(["datastore.sqlite3", "datastore.sqlite3.sha256"]);
    expect(statSync(sealPathOf(path)).mode & 0o777).toBe(0o600);
    const hash = new Bun.CryptoHasher("sha256").update(readFileSync(path)).digest("hex");
    expect(readFileSync(sealPathOf(path), "utf8")).toBe(`${hash}  datastore.sqlite3\n`);
  });

  test("is refused for a flipped byte anywhere, naming the command that restores it; nothing is changed", async () => {
    await fill();
    const whole = readFileSync(path);
    const places = Array.from({ length: 60 }, (_, at) =>
      Math.floor(((at + Math.random()) * whole.length) / 60),
    );
    for (const at of places) {
      flip(at);
      const { code, message } = await failureOf(open());
      expect({ at, code }).toEqual({ at, code: "DATA_LOSS" });
      expect(message).toContain(path);
      expect(message).toContain('stop the server and run "spire server restore FILE"');
      expect(readdirSync(directory).sort()).toEqual(["datastore.sqlite3", "datastore.sqlite3.sha256"]);
      writeFileSync(path, whole);
    }
    await (await open()).close();
  });

  test("is refused after a change by another program, until its seal is removed", async () => {
    await fill();
    const other = new Database(path);
    other.run("UPDATE entries SET hint = 'changed'");
    other.close(true);
    const { message } = await failureOf(open());
    expect(message).toContain(`if it was changed on purpose, remove ${sealPathOf(path)} and start again`);
    rmSync(sealPathOf(path));
    const store = await open();
    expect((await store.entries.get(["entry-0"]))[0]?.hint).toBe("changed");
    await store.close();
  });

  test("has no seal any more while it is open", async () => {
    await fill();
    const store = await open();
    expect(existsSync(sealPathOf(path))).toBe(false);
    await store.close();
    expect(existsSync(sealPathOf(path))).toBe(true);
  });
});

describe("a database without a seal, as after a crash", () => {
  test("is refused when its indexes and rows don't agree", async () => {
    await fill(50);
    rmSync(sealPathOf(path));
    const bytes = readFileSync(path);
    // In a row; the index has another.
    const at = bytes.indexOf("spiffe://example.org/49");
    expect(at).toBeGreaterThan(0);
    flip(at + 10);
    expect(await failureOf(open())).toMatchObject({
      code: "DATA_LOSS",
      message: expect.stringMatching(
        /database disk image is malformed; restore it from a backup: .*restore FILE/,
      ),
    });
  });
});

test("damage that is found while the database is open is told", async () => {
  await fill(2_000);
  const told: SpireError[] = [];
  const store = await open((error) => told.push(error));
  const bytes = readFileSync(path);
  writeFileSync(path, Buffer.concat([bytes.subarray(0, 8_192), Buffer.alloc(bytes.length - 8_192, 0xff)]));
  const reading = store.entries.list({}, { size: 0, token: "" });
  expect(await failureOf(reading)).toMatchObject({ code: "DATA_LOSS" });
  expect(told).toHaveLength(1);
  expect(told[0]?.message).toContain("spire server restore FILE");
  await store.close();
});

test("another process that opens and closes a database in use takes nothing away", async () => {
  const store = await open();
  await store.joinTokens.create({ token: "first", expiresAt: 1 });
  const script = `
    const { Database } = require("bun:sqlite");
    const database = new Database(${JSON.stringify(path)});
    database.query("SELECT count(*) FROM join_tokens").all();
    database.clearQueryCache();
    database.close(true);`;
  const child = Bun.spawnSync([process.execPath, "-e", script]);
  expect(child.stderr.toString()).toBe("");
  expect(existsSync(`${path}-wal`)).toBe(true);
  await store.joinTokens.create({ token: "second", expiresAt: 2 });

  // What a crash at this moment would leave.
  const copy = join(directory, "copy.sqlite3");
  for (const part of ["", "-wal"]) writeFileSync(copy + part, readFileSync(path + part));
  const left = new Database(copy);
  expect(left.query("SELECT token FROM join_tokens ORDER BY token").all()).toEqual([
    { token: "first" },
    { token: "second" },
  ]);
  left.close();
  await store.close();
});
