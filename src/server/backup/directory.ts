/** Whether a directory can be trusted with backups, which hold the registry, and keys if they are asked for. */
import { type Stats, statSync } from "node:fs";
import { resolve } from "node:path";
import { SpireError } from "../../core/errors.ts";
import { type ForeignPart, findForeignPart } from "../../files/foreign-part.ts";

const writableByEverybody = 0o002;
const sticky = 0o1000;
const root = 0;

/**
 * One that isn't there yet passes: the schedule makes it.
 * @param place where the configuration names it; may be empty.
 * @throws SpireError FAILED_PRECONDITION when somebody else could take or replace backups there.
 */
export function checkBackupDirectory(directory: string, place: string): void {
  const path = resolve(directory);
  const refuse = (why: string, remedy: string): SpireError =>
    new SpireError(
      "FAILED_PRECONDITION",
      `backup directory "${path}" ${why} (${place === "" ? "" : `${place}: `}${remedy})`,
    );
  let foreign: ForeignPart | undefined;
  let found: Stats | undefined;
  try {
    foreign = findForeignPart(path);
    found = statSync(path, { throwIfNoEntry: false });
  } catch {
    // A path that can't be followed, such as one below a file, is for the schedule to tell.
  }
  if (foreign) {
    const remedy = "who made it could replace backups; choose another place";
    throw refuse(`can't be used: "${foreign.path}" belongs to ${foreign.owner}`, remedy);
  }
  if (!found) return;
  const own = process.geteuid?.() ?? root;
  if (found.uid !== own && found.uid !== root) {
    throw refuse(`belongs to uid ${found.uid}, who could replace backups`, `run chown ${own} "${path}"`);
  }
  if ((found.mode & writableByEverybody) === 0 || (found.mode & sticky) !== 0) return;
  throw refuse("can be written by everybody", `run chmod o-w "${path}"`);
}
