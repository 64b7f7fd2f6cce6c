/** Socket files: made with their final rights, reclaimed when stale, never taken from a live owner. */
import { randomBytes } from "node:crypto";
import {
  accessSync,
  chmodSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
} from "node:fs";
import { connect, type Server } from "node:net";
import { basename, dirname, join, resolve } from "node:path";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { reasonOf } from "../files/failure.ts";
import { deepestExisting, findForeignPart } from "../files/foreign-part.ts";

/** unix(7): 108 bytes with the terminating zero. */
export const longestSocketPathBytes = 107;

export interface SocketFile {
  /** Rights of the socket, such as 0o770. */
  readonly mode: number;
  /** Rights of the directory, where it has to be made; 0o755 unless said. */
  readonly directoryMode?: number | undefined;
}

/**
 * Lets `server` listen at `path`; returns what removes the file again. The socket is made with its rights, under a
 * temporary name, and then gets its own.
 *
 * @throws SpireError INVALID_ARGUMENT for a path beyond 107 bytes; FAILED_PRECONDITION when another process
 * serves the socket, the path is taken by something that is no socket, or somebody else made its directory in a
 * shared one; UNAVAILABLE when the system refuses.
 */
export async function listenAtPath(server: Server, path: string, file: SocketFile): Promise<() => void> {
  refuseLong(path);
  try {
    const directory = dirname(resolve(path));
    refuseForeign(directory);
    mkdirSync(directory, { recursive: true, mode: file.directoryMode ?? 0o755 });
    await clearStale(path);
    return await bindWithRights(server, path, file.mode);
  } catch (caught) {
    if (caught instanceof SpireError) throw caught;
    throw unusable(path, caught);
  }
}

const unusable = (path: string, cause: unknown): SpireError =>
  new SpireError("UNAVAILABLE", `could not listen at "${path}": ${reasonOf(cause)}`, { cause });

function refuseLong(path: string): void {
  const length = Buffer.byteLength(path);
  if (length <= longestSocketPathBytes) return;
  throw invalidArgument(
    `socket path "${path}" has ${length} bytes; the system's limit is ${longestSocketPathBytes} bytes`,
  );
}

/**
 * Whether one could listen at `path`; changes nothing.
 * @returns the rights of its directory; undefined when that isn't there yet.
 * @throws SpireError as `listenAtPath` does.
 */
export async function checkSocketPlace(path: string): Promise<number | undefined> {
  refuseLong(path);
  const directory = dirname(resolve(path));
  refuseForeign(directory);
  try {
    await findStale(path);
    accessSync(deepestExisting(directory), constants.W_OK | constants.X_OK);
    return statSync(directory, { throwIfNoEntry: false })?.mode;
  } catch (caught) {
    throw caught instanceof SpireError ? caught : unusable(path, caught);
  }
}

/** Who owns the directory could put a socket of their own in the place of this one. */
function refuseForeign(directory: string): void {
  const foreign = findForeignPart(directory);
  if (!foreign) return;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `"${foreign.path}" belongs to ${foreign.owner} and lies where anybody may have made it; remove it or choose another socket directory`,
  );
}

async function bindWithRights(server: Server, path: string, mode: number): Promise<() => void> {
  const temporary = siblingOf(path);
  await listening(server, temporary, mode);
  const { ino: inode, mode: made } = lstatSync(temporary);
  try {
    // Where the directory has default access rules of its own, the umask counts for nothing.
    if ((made & 0o777) !== mode) chmodSync(temporary, mode);
    linkSync(temporary, path);
  } catch (error) {
    server.close();
    throw isCode(error, "EEXIST") ? inUse(path) : error;
  } finally {
    removeIfSame(temporary, inode);
  }
  return () => removeIfSame(path, inode);
}

/** The system makes the file within `listen`, with what the umask leaves of all rights. */
function listening(server: Server, path: string, mode: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const umask = process.umask(0o777 & ~mode);
    try {
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
}

/**
 * An unused name in the same directory that is no longer than the path itself, because of the limit. Of letters
 * only: a path of nothing but digits would be taken for a port.
 */
function siblingOf(path: string): string {
  const length = Math.max(1, Math.min(Buffer.byteLength(basename(path)), 16));
  const letters = Array.from(randomBytes(length), (byte) => String.fromCharCode(letterA + (byte % 26)));
  const sibling = join(dirname(path), letters.join(""));
  return sibling === join(path) ? siblingOf(path) : sibling;
}

const letterA = 97;

/** Moves a socket that nobody serves out of the way. */
async function clearStale(path: string): Promise<void> {
  const found = await findStale(path);
  if (!found) return;
  // Another starting process may have replaced it meanwhile: look at what was really taken.
  const aside = siblingOf(path);
  renameSync(path, aside);
  if (statOf(aside)?.ino !== found.ino) {
    linkSync(aside, path);
    unlinkSync(aside);
    throw inUse(path);
  }
  unlinkSync(aside);
}

/** What stands at the path and nobody serves. @throws SpireError FAILED_PRECONDITION for what is somebody's. */
async function findStale(path: string): Promise<Stats | undefined> {
  const found = statOf(path);
  if (!found) return undefined;
  if (!found.isSocket()) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `"${path}" exists and is not a socket; remove it, or choose another socket_path`,
    );
  }
  if (await isServed(path)) throw inUse(path);
  return found;
}

const inUse = (path: string): SpireError =>
  new SpireError(
    "FAILED_PRECONDITION",
    `socket "${path}" is in use by another process; stop that one, or choose another socket_path`,
  );

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect({ path }, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on("error", (error) => {
      if (isCode(error, "ECONNREFUSED") || isCode(error, "ENOENT")) resolve(false);
      // A full backlog: served, only busy.
      else if (isCode(error, "EAGAIN")) resolve(true);
      else reject(error);
    });
  });
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function removeIfSame(path: string, inode: number): void {
  if (statOf(path)?.ino === inode) unlinkSync(path);
}

const isCode = (error: unknown, code: string): boolean =>
  error instanceof Error && Reflect.get(error, "code") === code;
