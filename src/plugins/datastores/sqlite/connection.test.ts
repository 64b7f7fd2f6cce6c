/** Transactions that SQLite itself rolls back, as it does when the disk is full in the middle of one. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase, type Session, type SqliteDatabase } from "./connection.ts";

let directory: string;
let database: SqliteDatabase;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-sqlite-"));
  database = openDatabase(join(directory, "db"), (writer) => {
    writer.exec("CREATE TABLE items (name TEXT, filling BLOB)");
    // What a disk of 80 kB does.
    writer.exec("PRAGMA max_page_count = 20");
  });
});
afterEach(async () => {
  await database.close();
  rmSync(directory, { recursive: true, force: true });
});

const put = (session: Session, name: string, bytes = 10) =>
  session.write((connection) => {
    connection.statement("INSERT INTO items VALUES (?, zeroblob(?))").run(name, bytes);
  });
const names = () =>
  database.read((connection) =>
    connection
      .query<{ name: string }>("SELECT name FROM items")
      .all()
      .map(({ name }) => name),
  );
const full = {
  code: "RESOURCE_EXHAUSTED",
  message: expect.stringContaining("database or disk is full; make room"),
};
/** What the work failed with. */
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "nothing",
    (error: unknown) => error,
  );

test("all writes that shared the commit are refused for the true reason, and none is there", async () => {
  const writes = [put(database, "before"), put(database, "large", 200_000), put(database, "after")];
  for (const failure of await Promise.all(writes.map(failureOf))) expect(failure).toMatchObject(full);
  expect(await names()).toEqual([]);
  await put(database, "later");
  expect(await names()).toEqual(["later"]);
});

test("a transaction that goes on regardless commits nothing", async () => {
  const outcome = database.transaction(async (session) => {
    await put(session, "before");
    await put(session, "large", 200_000).catch(() => {});
    await put(session, "after");
  });
  expect(await failureOf(outcome)).toMatchObject({ code: "ABORTED" });
  expect(await names()).toEqual([]);
});
