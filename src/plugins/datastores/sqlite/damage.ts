/** Damage in a database: how it is looked for, and what is said of it. */
import { SpireError } from "../../../core/errors.ts";
import type { Connection } from "./connection.ts";

/** What to do about a damaged database. */
export const restoreAdvice = 'restore it from a backup: stop the server and run "spire server restore FILE"';

/**
 * Lets SQLite read the whole database: pages, records, indexes, and references between tables. 0.3 s for 100,000
 * entries. @throws SpireError DATA_LOSS with the first thing that is wrong; whatever SQLite throws.
 */
export function requireSound(connection: Pick<Connection, "query">, path: string): void {
  const [first] = connection.query<{ integrity_check: string }>("PRAGMA integrity_check(1)").all();
  const found = first?.integrity_check;
  if (found !== "ok") throw malformed(path, found ?? "the check says nothing");
  const [reference] = connection.query<{ table: string }>("PRAGMA foreign_key_check").all();
  if (reference) throw malformed(path, `a row of ${reference.table} refers to one that is missing`);
}

const malformed = (path: string, what: string): SpireError =>
  new SpireError(
    "DATA_LOSS",
    `datastore ${path}: database disk image is malformed; ${restoreAdvice} (${what.replace(/\s+/g, " ")})`,
  );
