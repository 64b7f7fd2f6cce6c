/** Replacing a file so that it is always a whole one, also after a power cut. */
import { randomBytes } from "node:crypto";
import { readdirSync, unlinkSync } from "node:fs";
import { open, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const unfinishedEnd = ".tmp";

/** A new name, in the folder of `path`, for what is to become that file. */
export const unfinishedName = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}${unfinishedEnd}`);

/** Whether a file called `name` is what a writer of the file `target`, in the same folder, works on or has left. */
export const isUnfinished = (name: string, target: string): boolean =>
  name.startsWith(`.${basename(target)}.`) && name.endsWith(unfinishedEnd);

/**
 * Removes what writers of `path` left when they were killed, which may hold keys. For the one process that owns the
 * file, before it writes: a write under way elsewhere would fail. What can't be removed stays.
 */
export function removeUnfinished(path: string): void {
  try {
    const folder = dirname(path);
    for (const name of readdirSync(folder)) if (isUnfinished(name, path)) unlinkSync(join(folder, name));
  } catch {
    // No folder yet, or one that can't be written to; a write will say so.
  }
}

/**
 * Puts `text` at `path` in one step: a reader sees the old file or the new one, with these rights from its first
 * byte. It is durable when this resolves. @throws the system's error; then the old file stands.
 */
export async function replaceFile(path: string, text: string, mode = 0o600): Promise<void> {
  const temporary = unfinishedName(path);
  try {
    await writeSynced(temporary, text, mode);
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Makes a file that must not be there. It is on disk when this resolves; its name is not yet. */
export async function writeSynced(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, "wx", mode);
  try {
    // The umask has a say in what open() grants.
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
