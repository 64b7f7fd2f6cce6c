/** Logs as a crash leaves them, whole, cut short and damaged. */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requireWholeLog } from "./log-check.ts";

let directory: string;
let path: string;
let source: Database;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-log-"));
  path = join(directory, "left.sqlite3");
  source = new Database(join(directory, "used.sqlite3"), { create: true, readwrite: true });
  for (const pragma of ["journal_mode = WAL", "wal_autocheckpoint = 0"]) source.run(`PRAGMA ${pragma}`);
  source.run("CREATE TABLE items (name TEXT)");
});
afterEach(() => {
  source.close();
  rmSync(directory, { recursive: true, force: true });
});

const commit = (name: string) => source.run(`INSERT INTO items VALUES ('${name}')`);

/** What a crash at this moment leaves. @returns the bytes of the log. */
function crash(): Buffer {
  for (const part of ["", "-wal"]) writeFileSync(path + part, readFileSync(source.filename + part));
  return readFileSync(`${path}-wal`);
}
const leave = (log: Buffer) => writeFileSync(`${path}-wal`, log);
const isRefused = (): boolean => {
  try {
    requireWholeLog(path);
    return false;
  } catch {
    return true;
  }
};

test("a whole log passes, and one of which the last commit was cut short", () => {
  for (const name of ["a", "b", "c"]) commit(name);
  const whole = crash();
  requireWholeLog(path);
  for (let cut = 1; cut < 5_000; cut += 100) {
    leave(whole.subarray(0, -cut));
    requireWholeLog(path);
  }
  // Its pages came to the disk in another order.
  const torn = Buffer.from(whole);
  torn.fill(0, whole.length - 4_000, whole.length - 3_000);
  leave(torn);
  requireWholeLog(path);
});

test("a flipped byte before the last commit is found, wherever it is in a frame", () => {
  for (const name of ["a", "b", "c", "d"]) commit(name);
  const whole = crash();
  const frame = 24 + 4_096;
  const passed: number[] = [];
  for (let at = 32; at < 32 + 2 * frame; at += 61) {
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(at) ^ 0x20, at);
    leave(damaged);
    if (!isRefused()) passed.push(at);
  }
  expect(passed).toEqual([]);
  leave(whole);
  requireWholeLog(path);
});

test("frames of an earlier round of the log are no damage", () => {
  for (let at = 0; at < 50; at += 1) commit(`earlier ${at}`);
  source.query("PRAGMA wal_checkpoint(RESTART)").all();
  commit("later");
  const log = crash();
  expect(log.length).toBeGreaterThan(10 * 4_096);
  requireWholeLog(path);
});

test("a database without a log, or with an empty one, passes", () => {
  requireWholeLog(join(directory, "none.sqlite3"));
  crash();
  leave(Buffer.alloc(0));
  expect(statSync(`${path}-wal`).size).toBe(0);
  requireWholeLog(path);
});
