/**
 * A seal on a database that is not in use: its checksum, written when the server stops and compared when it starts.
 * SQLite notices damage to its own structures alone; this notices every byte.
 */
import { createHash } from "node:crypto";
import { existsSync, rmSync, statSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { SpireError } from "../../../core/errors.ts";
import { replaceFile } from "../../../files/replace-file.ts";
import { closeDatabase, databaseError } from "./connection.ts";
import { requireSound, restoreAdvice } from "./damage.ts";
import { openUntouched } from "./inspect.ts";

/** The file beside a database that has its checksum, in the form of sha256sum. */
export const sealPathOf = (path: string): string => `${path}.sha256`;

const isInUse = (path: string): boolean => sizeOf(`${path}-wal`) > 0;
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Seals a database that was closed; not one that another process has open, or whose log is not empty. Never throws. */
export async function sealDatabase(path: string): Promise<void> {
  // The last one to close a database takes its log away.
  if (existsSync(`${path}-wal`)) return;
  try {
    await replaceFile(sealPathOf(path), `${await hashFile(path)}  ${basename(path)}\n`);
  } catch {
    // Without a seal, a start relies on SQLite's own checks.
  }
}

/**
 * Compares the database with its seal, if it has one, and takes the seal away, for the database is about to change.
 * @throws SpireError DATA_LOSS when a byte differs; then nothing was changed.
 */
export async function breakSeal(path: string): Promise<void> {
  if (!(await isAsSealed(path))) throw describeChange(path);
  // What is no file isn't opened either.
  const isFileOrNone = statSync(path, { throwIfNoEntry: false })?.isFile() ?? true;
  if (isFileOrNone) removeSeal(path);
}

/** Whether a database that is not in use is what was sealed; one without a seal, or that was used since, passes. */
export async function isAsSealed(path: string): Promise<boolean> {
  const seal = await readFile(sealPathOf(path), "utf8").catch(() => undefined);
  if (seal === undefined || isInUse(path) || !existsSync(path)) return true;
  const found = await hashFile(path).catch(() => undefined);
  // Why it can't be read is said when it is opened.
  return found === undefined || found === seal.slice(0, found.length);
}

/** For who changes a database that is closed. */
export const removeSeal = (path: string): void => rmSync(sealPathOf(path), { force: true });

/** What SQLite finds wrong, else that something is. Writes nothing, not even SQLite's index of the log. */
function describeChange(path: string): SpireError {
  try {
    const database = openUntouched(path);
    try {
      requireSound({ query: (sql) => database.query(sql) }, path);
    } finally {
      closeDatabase(database);
    }
  } catch (error) {
    return databaseError(error, path);
  }
  const ifMeant = `if it was changed on purpose, remove ${sealPathOf(path)} and start again`;
  return new SpireError(
    "DATA_LOSS",
    `datastore ${path} is not as the server left it: its checksum differs; ${restoreAdvice}; ${ifMeant}`,
  );
}

const chunkBytes = 1 << 20;

/** SHA-256 of a file in hex, read in pieces. */
async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(path, "r");
  try {
    const chunk = Buffer.alloc(chunkBytes);
    for (;;) {
      const { bytesRead } = await file.read(chunk);
      if (bytesRead === 0) return hash.digest("hex");
      hash.update(chunk.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}
