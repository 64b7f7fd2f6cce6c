/** Whether somebody else has a hand in a path: where anybody can make names, they may have made this one first. */
import { lstatSync, readFileSync, realpathSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";

export interface ForeignPart {
  readonly path: string;
  /** In words: `uid 1001`. */
  readonly owner: string;
}

export interface Viewer {
  /** Of this process. */
  readonly uid: number;
  /**
   * The number that all users have here who have none, such as the host's root in a rootless container; undefined
   * where every user has a number.
   */
  readonly overflowUid?: number;
}

const writableByEverybody = 0o002;
const root = 0;

/**
 * The first part of `path` that lies in a directory which everybody may write to, such as /tmp, and belongs neither
 * to the user of this process nor to root: its owner can put anything in the place of what is below. A link on the
 * way counts as well as what it leads to; parts that aren't there yet don't.
 *
 * In a user namespace nobody can tell the host's root from its other users. There, a part that is mounted counts as
 * root's: only who made the container can have mounted it.
 */
export function findForeignPart(path: string, viewer = readViewer()): ForeignPart | undefined {
  const wanted = resolve(path);
  const foreign = walk(wanted, viewer);
  if (foreign) return foreign;
  const existing = deepestExisting(wanted);
  const real = realpathSync(existing);
  return real === existing ? undefined : walk(real, viewer);
}

function walk(path: string, viewer: Viewer): ForeignPart | undefined {
  for (const part of partsOf(path)) {
    const found = lstatSync(part, { throwIfNoEntry: false });
    if (!found) return undefined;
    const around = statSync(dirname(part));
    if ((around.mode & writableByEverybody) === 0 || isTrusted(found, around, viewer)) continue;
    const unknown = found.uid === viewer.overflowUid ? " (a user from outside of this container)" : "";
    return { path: part, owner: `uid ${found.uid}${unknown}` };
  }
  return undefined;
}

function isTrusted(found: Stats, around: Stats, { uid, overflowUid }: Viewer): boolean {
  if (found.uid === uid || found.uid === root) return true;
  return found.uid === overflowUid && found.dev !== around.dev;
}

function readViewer(): Viewer {
  const uid = process.geteuid?.() ?? root;
  const overflowUid = Number(readKernel("/proc/sys/kernel/overflowuid") ?? Number.NaN);
  const map = readKernel("/proc/self/uid_map");
  if (Number.isNaN(overflowUid) || map === undefined || isMapped(overflowUid, map)) return { uid };
  return { uid, overflowUid };
}

/** Lines of user_namespaces(7): first number here, first number outside, how many. */
export const isMapped = (uid: number, map: string): boolean =>
  map.split("\n").some((line) => {
    const [first = Number.NaN, , count = Number.NaN] = line.trim().split(/\s+/).map(Number);
    return uid >= first && uid < first + count;
  });

function readKernel(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

/** Every directory on the way to an absolute path, the highest first, and the path itself. */
function partsOf(path: string): string[] {
  const parts: string[] = [];
  for (let part = path; part !== dirname(part); part = dirname(part)) parts.unshift(part);
  return parts;
}

/** What there is of an absolute path. */
export function deepestExisting(path: string): string {
  let existing = path;
  while (!statSync(existing, { throwIfNoEntry: false })) existing = dirname(existing);
  return existing;
}
