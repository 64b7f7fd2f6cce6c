/** Last touches on a database that is made to take the place of another. */
import { Database } from "bun:sqlite";
import { closeSync, fsyncSync, openSync } from "node:fs";
import { closeDatabase, databaseError } from "./connection.ts";
import { removeSeal } from "./seal.ts";

/** Gives entries their revisions, by ID. */
export function setRevisions(path: string, revisions: ReadonlyMap<string, number>): void {
  if (revisions.size === 0) return;
  withDatabase(path, (database) => {
    const set = database.query("UPDATE entries SET revision_number = ? WHERE id = ?");
    database.transaction(() => {
      for (const [id, revision] of revisions) set.run(revision, id);
    })();
  });
}

/** Leaves one file, without a log, that is on disk when it returns. */
export function makeSelfContained(path: string): void {
  withDatabase(path, (database) => database.run("PRAGMA journal_mode = DELETE"));
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function withDatabase(path: string, work: (database: Database) => void): void {
  try {
    removeSeal(path);
    const database = new Database(path, { readwrite: true, strict: true });
    try {
      work(database);
    } finally {
      closeDatabase(database);
    }
  } catch (error) {
    throw databaseError(error, path);
  }
}
