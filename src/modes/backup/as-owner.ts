/**
 * What root does in a directory of another user is done as that user: whatever links are there lead no further than
 * its owner could go, and files that are made belong to who is to use them. For commands: it holds for the whole process.
 */
import { lstatSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { SpireError } from "../../core/errors.ts";
import { reasonOf } from "../../files/failure.ts";
import { deepestExisting } from "../../files/foreign-part.ts";

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

const root = 0;
/** A group of no rights: `nogroup`, on some systems `nobody`. */
const noGroup = 65_534;

/**
 * Runs `work`; as the owner of the folder when root does so and another user owns it. One that isn't there yet is who
 * owns the directory that it is made in's.
 * @throws SpireError FAILED_PRECONDITION when a link on the way to the folder is somebody else's, and on systems that
 * can't change the user.
 */
export async function asOwnerOf<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const owner = foreignOwnerOf(folder);
  if (!owner) return work();
  const back = become(owner, folder);
  try {
    requireReachable(folder, owner);
    return await work();
  } finally {
    back();
  }
}

/** @throws SpireError FAILED_PRECONDITION when the owner can't get to the folder, as below a directory of root's. */
function requireReachable(folder: string, { uid }: Owner): void {
  try {
    statSync(`${deepestExisting(resolve(folder))}/.`);
  } catch (cause) {
    const reason = "it is worked in as that user, who can't get there";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `"${folder}" belongs to uid ${uid}: ${reason}: ${reasonOf(cause)}`,
      { cause },
    );
  }
}

/**
 * Undefined unless this is root, and the folder another user's.
 * @throws SpireError FAILED_PRECONDITION when a link on the way to it is somebody else's.
 */
export function foreignOwnerOf(folder: string): Owner | undefined {
  if (process.geteuid?.() !== root) return undefined;
  const existing = existingPartOf(folder);
  if (existing === undefined) return undefined;
  const { uid, gid } = statSync(existing);
  for (let part = existing; part !== dirname(part); part = dirname(part)) {
    const found = lstatSync(part);
    if (!found.isSymbolicLink() || found.uid === root || found.uid === uid) continue;
    const reason = "who could let it lead elsewhere; name the directory itself";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `"${part}" is a link that belongs to uid ${found.uid}: ${reason}`,
    );
  }
  // A directory that was given to a user, and not to a group of theirs, grants nothing of root's group.
  return uid === root ? undefined : { uid, gid: gid === root ? noGroup : gid };
}

/** Undefined for a path that can't be followed, such as one below a file: that is for who opens it to tell. */
function existingPartOf(folder: string): string | undefined {
  try {
    return deepestExisting(resolve(folder));
  } catch {
    return undefined;
  }
}

/** @returns what makes this root again. */
function become({ uid, gid }: Owner, folder: string): () => void {
  const { seteuid, setegid, setgroups, getgroups, getegid } = process;
  if (!seteuid || !setegid || !setgroups || !getgroups || !getegid) {
    const remedy = `run this as that user, such as by sudo -u "#${uid}"`;
    throw new SpireError("FAILED_PRECONDITION", `"${folder}" belongs to uid ${uid}: ${remedy}`);
  }
  const groups = getgroups();
  const group = getegid();
  const back = () => {
    seteuid(root);
    setegid(group);
    setgroups(groups);
  };
  try {
    setgroups([]);
    setegid(gid);
    seteuid(uid);
  } catch (cause) {
    back();
    const remedy = `run this as that user, such as by sudo -u "#${uid}"`;
    throw new SpireError("FAILED_PRECONDITION", `"${folder}" belongs to uid ${uid}: ${remedy}`, { cause });
  }
  return back;
}
