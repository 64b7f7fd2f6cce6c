/** Directories in which files are made that get their names in the end by a rename. */
import { lchownSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

const prefix = ".spire-work-";

/** Whether `makeWorkDirectory` can have made a directory of this name. */
export const isWorkName = (name: string): boolean => /^\.spire-work-\d+-[A-Za-z0-9]{6}$/.test(name);

/** Makes a private directory in `folder`; what processes that were killed left there goes. @throws the system's error. */
export function makeWorkDirectory(folder: string): string {
  removeLeftWork(folder);
  const made = mkdtempSync(join(folder, `${prefix}${process.pid}-`));
  giveToOwnerOf(folder, made);
  return made;
}

/** Removes the directories of processes that were killed. @throws the system's error. */
export function removeLeftWork(folder: string): void {
  for (const name of readdirSync(folder)) {
    const pid = name.startsWith(prefix) ? Number(name.slice(prefix.length).split("-")[0]) : 0;
    if (pid > 0 && !isAlive(pid)) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** An administrator's files would be of no use to the user that the server runs as. */
export function giveToOwnerOf(folder: string, file: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = statSync(folder);
  // The folder's owner may have put a link in its place, to a file that is not theirs.
  lchownSync(file, uid, gid);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
