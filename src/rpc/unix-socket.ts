/** Socket files: made with their final rights, reclaimed when stale, never taken from a live owner. */
import { randomBytes } from "node:crypto";
import { chmodSync, linkSync, lstatSync, mkdirSync, renameSync, type Stats, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { basename, dirname, join, resolve } from "node:path";
import { invalidArgument, SpireError } from "../core/errors.ts";

/** unix(7): 108 bytes with the terminating zero. */
export const longestSocketPathBytes = 107;

export interface SocketFile {
  /** Rights of the socket, such as 0o770. */
  readonly mode: number;
  /** Rights of the directory, where it has to be made; 0o755 unless said. */
  readonly directoryMode?: number | undefined;
}

/**
 * Lets `server` listen at `path`; returns what removes the file again. The socket gets its rights under a
 * temporary name and then its own, so nobody can connect before they apply.
 *
 * @throws SpireError INVALID_ARGUMENT for a path beyond 107 bytes; FAILED_PRECONDITION when another process
 * serves the socket or the path is taken by something that is no socket; UNAVAILABLE when the system refuses.
 */
export async function listenAtPath(server: Server, path: string, file: SocketFile): Promise<() => void> {
  const length = Buffer.byteLength(path);
  if (length > longestSocketPathBytes) {
    throw invalidArgument(
      `socket path "${path}" has ${length} bytes; the system's limit is ${longestSocketPathBytes} bytes`,
    );
  }
  try {
    mkdirSync(dirname(resolve(path)), { recursive: true, mode: file.directoryMode ?? 0o755 });
    await clearStale(path);
    return await bindWithRights(server, path, file.mode);
  } catch (caught) {
    if (caught instanceof SpireError) throw caught;
    const reason = caught instanceof Error ? caught.message : String(caught);
    throw new SpireError("UNAVAILABLE", `could not listen at "${path}": ${reason}`, { cause: caught });
  }
}

async function bindWithRights(server: Server, path: string, mode: number): Promise<() => void> {
  const temporary = siblingOf(path);
  await listening(server, temporary);
  const inode = lstatSync(temporary).ino;
  try {
    chmodSync(temporary, mode);
    linkSync(temporary, path);
  } catch (error) {
    server.close();
    throw isCode(error, "EEXIST") ? inUse(path) : error;
  } finally {
    removeIfSame(temporary, inode);
  }
  return () => removeIfSame(path, inode);
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** An unused name in the same directory that is no longer than the path itself, because of the limit. */
function siblingOf(path: string): string {
  const length = Math.max(1, Math.min(Buffer.byteLength(basename(path)), 16));
  return join(dirname(path), randomBytes(16).toString("hex").slice(0, length));
}

/** Moves a socket that nobody serves out of the way. */
async function clearStale(path: string): Promise<void> {
  const found = statOf(path);
  if (!found) return;
  if (!found.isSocket()) {
    throw new SpireError("FAILED_PRECONDITION", `"${path}" exists and is not a socket`);
  }
  if (await isServed(path)) throw inUse(path);
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

const inUse = (path: string): SpireError =>
  new SpireError("FAILED_PRECONDITION", `socket "${path}" is in use by another process`);

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path, () => {
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
