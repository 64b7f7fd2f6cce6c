/** A look at a database file that changes nothing, before it is opened for work. */
import { Database, constants as sqlite } from "bun:sqlite";
import { accessSync, constants, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { SpireError } from "../../../core/errors.ts";
import { reasonOf } from "../../../files/failure.ts";
import { closeDatabase, databaseError, memory } from "./connection.ts";

/**
 * A database that isn't there yet passes if it can be made.
 * @param dataDir is made before the database is.
 * @throws SpireError FAILED_PRECONDITION for one of another program, and for one that can't be
 *   read, written or made; DATA_LOSS for a file that is no database.
 */
export function requireOwnDatabase(path: string, dataDir: string): void {
  if (path === memory) return;
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) {
    requireRoom(path, dataDir);
    return;
  }
  requireRights(path, path, constants.R_OK | constants.W_OK);
  // Empty, it was made and never written to.
  if (found.size === 0 || !found.isFile()) return;
  try {
    const database = openUntouched(path);
    try {
      requireOwnSchema(database, path);
    } finally {
      closeDatabase(database);
    }
  } catch (error) {
    throw databaseError(error, path);
  }
}

/**
 * Opens a database for reading. If it has no log, it is locked for nobody, and SQLite makes no files beside it; with a
 * log, as after a crash, those files are there already, and without them what is in it makes no sense.
 */
export function openUntouched(path: string): Database {
  const logBytes = statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  if (logBytes > 0) return new Database(path, { readonly: true });
  const flags = sqlite.SQLITE_OPEN_READONLY | sqlite.SQLITE_OPEN_URI;
  return new Database(`${pathToFileURL(path).href}?immutable=1`, flags);
}

function requireRoom(path: string, dataDir: string): void {
  const directory = dirname(resolve(path));
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    requireRights(path, directory, constants.W_OK | constants.X_OK);
    return;
  }
  // The data directory is made with those above it, and no other.
  if (`${resolve(dataDir)}/`.startsWith(`${directory}/`)) return;
  const message = `datastore ${path} can't be made: there is no directory "${directory}"; make it, or choose another connection_string`;
  throw new SpireError("FAILED_PRECONDITION", message);
}

function requireRights(path: string, checked: string, rights: number): void {
  try {
    accessSync(checked, rights);
  } catch (cause) {
    const message = `datastore ${path} can't be opened: ${reasonOf(cause)}`;
    throw new SpireError("FAILED_PRECONDITION", message, { cause });
  }
}

function requireOwnSchema(database: Database, path: string): void {
  const names = database.query<{ name: string }, []>("SELECT name FROM sqlite_schema").all();
  if (names.length === 0) return;
  if (names.some(({ name }) => name === "schema_versions")) return;
  const owner = names.some(({ name }) => name === "registered_entries")
    ? 'stock SPIRE: name another file in connection_string, and take this one over with "spire server import --from-spire"'
    : "another program: name another file in connection_string";
  throw new SpireError("FAILED_PRECONDITION", `datastore ${path} is a database of ${owner}`);
}
