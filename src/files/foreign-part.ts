/** Whether somebody else has a hand in a path: where anybody can make names, they may have made this one first. */
import { lstatSync, realpathSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

export interface ForeignPart {
  readonly path: string;
  /** Its owner. */
  readonly uid: number;
}

const writableByEverybody = 0o002;
const root = 0;

/**
 * The first part of `path` that lies in a directory which everybody may write to, such as /tmp, and belongs neither
 * to the user of this process nor to root: its owner can put anything in the place of what is below. A link on the
 * way counts as well as what it leads to; parts that aren't there yet don't.
 */
export function findForeignPart(path: string, uid = process.getuid?.() ?? root): ForeignPart | undefined {
  const wanted = resolve(path);
  const foreign = walk(wanted, uid);
  if (foreign) return foreign;
  const existing = deepestExisting(wanted);
  const real = realpathSync(existing);
  return real === existing ? undefined : walk(real, uid);
}

function walk(path: string, uid: number): ForeignPart | undefined {
  for (const part of partsOf(path)) {
    const found = lstatSync(part, { throwIfNoEntry: false });
    if (!found) return undefined;
    const isShared = (statSync(dirname(part)).mode & writableByEverybody) !== 0;
    if (isShared && found.uid !== uid && found.uid !== root) return { path: part, uid: found.uid };
  }
  return undefined;
}

/** Every directory on the way to an absolute path, the highest first, and the path itself. */
function partsOf(path: string): string[] {
  const parts: string[] = [];
  for (let part = path; part !== dirname(part); part = dirname(part)) parts.unshift(part);
  return parts;
}

function deepestExisting(path: string): string {
  let existing = path;
  while (!statSync(existing, { throwIfNoEntry: false })) existing = dirname(existing);
  return existing;
}
