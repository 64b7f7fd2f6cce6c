/** Directories that nobody else may enter: which one holds the running instances, and the checks before it is used. */
import { lstatSync, mkdirSync, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { SpireError } from "../../core/errors.ts";

/** What decides where a user's instances are found. */
export interface Surroundings {
  /** `$XDG_RUNTIME_DIR`, if set. */
  readonly runtimeDirectory: string | undefined;
  readonly temporaryDirectory: string;
  readonly uid: number;
}

/**
 * `spire-dev` below `$XDG_RUNTIME_DIR` when that is a directory of this user's own (after `sudo -E` it is not),
 * else `spire-dev-<uid>` in the temporary directory. The path is not yet checked.
 */
export function instancesDirectory({ runtimeDirectory, temporaryDirectory, uid }: Surroundings): string {
  return runtimeDirectory !== undefined &&
    isAbsolute(runtimeDirectory) &&
    isOwnDirectory(runtimeDirectory, uid)
    ? join(runtimeDirectory, "spire-dev")
    : join(temporaryDirectory, `spire-dev-${uid}`);
}

function isOwnDirectory(path: string, uid: number): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === uid;
}

/**
 * Whether the directory is there. Anybody can make a name in the temporary directory, so what is there counts
 * only when it is a real directory, the user's own and closed to others.
 * @throws SpireError FAILED_PRECONDITION with what is wrong and how to mend it.
 */
export function checkPrivateDirectory(path: string, uid: number): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return false;
  const refuse = (what: string, mend: string) =>
    new SpireError("FAILED_PRECONDITION", `${path} ${what}; ${mend}`);
  if (found.isSymbolicLink()) throw refuse("is a symbolic link, which dev does not follow", "remove it");
  if (!found.isDirectory()) throw refuse("is not a directory", "remove it");
  if (found.uid !== uid)
    throw refuse(`belongs to uid ${found.uid}, not to you`, "set XDG_RUNTIME_DIR or TMPDIR");
  const mode = found.mode & 0o7777;
  if (mode !== 0o700) throw refuse(`has mode 0${mode.toString(8)}, not 0700`, `run: chmod 700 ${path}`);
  return true;
}

/** Makes the directory with 0700, or checks the one that is there. @throws SpireError FAILED_PRECONDITION. */
export function makePrivateDirectory(path: string, uid: number): void {
  if (checkPrivateDirectory(path, uid)) return;
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another instance was faster: then the check decides.
    if (!checkPrivateDirectory(path, uid)) {
      throw new SpireError("FAILED_PRECONDITION", `can't make the directory ${path}`, { cause: error });
    }
  }
}
