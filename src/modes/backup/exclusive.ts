/** Makes sure that no process has a database open, and that none opens it meanwhile. */
import { ptr } from "bun:ffi";
import { closeSync, constants, existsSync, openSync } from "node:fs";
import { connect } from "node:net";
import { SpireError } from "../../core/errors.ts";
import { openLibc } from "../dev/libc.ts";

/** fcntl(2) on Linux: locks of an open file, which conflict with those that SQLite takes. */
const getLock = 36;
const setLock = 37;
const writeLock = 1;
const unlocked = 2;
/** The bytes of a database that SQLite locks ("File Locking And Concurrency", section 3); every user holds some. */
const lockBytes = { start: 0x40000000, length: 512 };
/** `struct flock` of 64-bit Linux: type, whence, start, length, process. */
const structBytes = 32;
const offsets = { start: 8, length: 16, pid: 24 };

export interface Held {
  release(): void;
}

/**
 * Locks a database that is there; other programs that open it wait. Where the system has no such locks (not Linux),
 * nothing is locked.
 * @throws SpireError FAILED_PRECONDITION when some process has it open.
 */
export function holdDatabase(path: string): Held {
  if (process.platform !== "linux" || !existsSync(path)) return { release() {} };
  const libc = openLibc({ fcntl: { args: ["int", "int", "ptr"], returns: "int" } });
  const { file, isWritable } = open(path);
  const held = { release: () => closeSync(file) };
  if (isWritable && libc.fcntl(file, setLock, ptr(lockRequest())) === 0) return held;
  const holder = lockRequest();
  const answered = libc.fcntl(file, getLock, ptr(holder)) === 0;
  if (!isWritable && (!answered || holder.readInt16LE(0) === unlocked)) return held;
  closeSync(file);
  const pid = answered ? holder.readInt32LE(offsets.pid) : 0;
  const who = pid > 0 ? `process ${pid}` : "a process";
  throw new SpireError("FAILED_PRECONDITION", `${path} is open in ${who}: stop the server that it is`);
}

/** Who may only read a file can ask for its locks, and take none. */
function open(path: string): { file: number; isWritable: boolean } {
  try {
    return { file: openSync(path, constants.O_RDWR), isWritable: true };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : "";
    if (code !== "EACCES" && code !== "EROFS") throw error;
    return { file: openSync(path, constants.O_RDONLY), isWritable: false };
  }
}

function lockRequest(): Buffer {
  const request = Buffer.alloc(structBytes);
  request.writeInt16LE(writeLock, 0);
  request.writeBigInt64LE(BigInt(lockBytes.start), offsets.start);
  request.writeBigInt64LE(BigInt(lockBytes.length), offsets.length);
  return request;
}

/** @throws SpireError FAILED_PRECONDITION when something answers at a server's socket. */
export async function refuseRunning(socketPath: string): Promise<void> {
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect({ path: socketPath });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
  if (!answers) return;
  throw new SpireError("FAILED_PRECONDITION", `a server is running at ${socketPath}: stop it first`);
}
