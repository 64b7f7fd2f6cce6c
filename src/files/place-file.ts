/** Gives a finished file its name, in one step. */
import { link, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { syncFolder } from "./replace-file.ts";

/**
 * Renames `temporary`, which is in the folder of `path` or on its file system, and makes the name durable.
 * @param replace whether a file that has the name already goes.
 * @throws the system's error; EEXIST for a name that is taken.
 */
export async function placeFile(temporary: string, path: string, replace: boolean): Promise<void> {
  if (replace) {
    await rename(temporary, path);
  } else {
    // A link, unlike a rename, never takes the place of what is there.
    await link(temporary, path);
    await unlink(temporary);
  }
  await syncFolder(dirname(path));
}
