import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock } from "../../../core/clock.ts";
import { draftEntry, type EntryDraft } from "../../../core/entry.ts";
import { parseSpiffeId } from "../../../core/spiffe-id.ts";
import { createSqliteStore } from "./store.ts";

const clock = createManualClock(1_800_000_000_000);

const draft = (name: string): EntryDraft =>
  draftEntry({
    id: name,
    spiffeId: parseSpiffeId(`spiffe://example.org/${name}`),
    parentId: parseSpiffeId("spiffe://example.org/spire/agent/a"),
    selectors: [{ type: "unix", value: "uid:0" }],
  });

describe("a SQLite datastore in a file", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "spire-sqlite-"));
    path = join(directory, "datastore.sqlite3");
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const open = () => createSqliteStore({ path, clock });

  test("keeps everything across a restart", async () => {
    const first = await open();
    await first.entries.create([draft("a")], 7);
    const entries = await first.entries.get(["a"]);
    await first.close();
    const second = await open();
    expect(await second.entries.get(["a"])).toEqual(entries);
    expect(await second.changes.latest()).toBe(1);
    await second.close();
  });

  test("belongs to its owner alone, with its log and index files", async () => {
    writeFileSync(path, "");
    chmodSync(path, 0o644);
    const store = await open();
    await store.entries.create([draft("a")], 7);
    const files = readdirSync(directory);
    expect(files.length).toBeGreaterThanOrEqual(3);
    for (const file of files) expect(statSync(join(directory, file)).mode & 0o777).toBe(0o600);
    await store.close();
  });

  test("answers reads at once while a transaction is open, without its data", async () => {
    const store = await open();
    await store.transaction(async (inside) => {
      await inside.entries.create([draft("a")], 7);
      expect(await inside.entries.count({})).toBe(1);
      expect(await store.entries.count({})).toBe(0);
    });
    expect(await store.entries.count({})).toBe(1);
    await store.close();
  });

  test("is shared by two servers, each seeing what the other committed", async () => {
    const [a, b] = [await open(), await open()];
    await a.entries.create([draft("a")], 7);
    expect(await b.changes.after(0, 10)).toEqual([{ sequence: 1, kind: "entry", key: "a" }]);
    await b.entries.create([draft("b")], 7);
    expect((await a.entries.get(["a", "b"])).map((entry) => entry?.id)).toEqual(["a", "b"]);
    await a.close();
    await b.close();
  });

  test("of a newer version is refused, naming both versions", async () => {
    await (await open()).close();
    const database = new Database(path);
    database.run("INSERT INTO schema_versions (version, migrated_at) VALUES (999, 0)");
    database.close();
    rmSync(`${path}.sha256`);
    await expect(open()).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringMatching(/schema version 999.*knows version \d+/),
    });
  });

  test("of another program is refused and left as it is", async () => {
    const database = new Database(path, { create: true, readwrite: true });
    database.run("CREATE TABLE registered_entries (id INTEGER PRIMARY KEY)");
    database.close();
    await expect(open()).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringContaining("database of another program"),
    });
    const after = new Database(path, { readonly: true });
    expect(after.query("SELECT name FROM sqlite_schema").all()).toEqual([{ name: "registered_entries" }]);
    after.close();
  });

  test("that is no database is refused by name", async () => {
    writeFileSync(path, "not a database, but long enough to look at".repeat(200));
    await expect(open()).rejects.toMatchObject({
      code: "DATA_LOSS",
      message: expect.stringContaining(path),
    });
  });

  test("in a directory that doesn't exist is refused by name", async () => {
    const missing = join(directory, "missing", "datastore.sqlite3");
    await expect(createSqliteStore({ path: missing, clock })).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringContaining(missing),
    });
  });
});
