/** Locks that a process holds as long as it lives and that the kernel lifts when it dies (flock(2)). */
import { closeSync, constants, openSync } from "node:fs";
import { openLibc } from "./libc.ts";

const lockShared = 1;
const lockExclusive = 2;
const lockNonBlocking = 4;

export interface FileLock {
  release(): void;
}

export interface FileLocks {
  /** Makes the file (0600) when it is missing and locks it; undefined when another process holds it. */
  take(path: string): FileLock | undefined;
  /** Whether some process holds the file's lock; false when there is no such file. */
  isHeld(path: string): boolean;
}

/** @throws Error where the C library can't be loaded. */
export function createFileLocks(): FileLocks {
  const { flock } = openLibc({ flock: { args: ["int", "int"], returns: "int" } });
  const tryLock = (path: string, flags: number, operation: number): number | undefined => {
    const descriptor = openSync(path, flags | constants.O_NOFOLLOW, 0o600);
    if (flock(descriptor, operation | lockNonBlocking) === 0) return descriptor;
    closeSync(descriptor);
    return undefined;
  };
  return {
    take(path) {
      const descriptor = tryLock(path, constants.O_RDWR | constants.O_CREAT, lockExclusive);
      return descriptor === undefined ? undefined : { release: () => closeSync(descriptor) };
    },
    isHeld(path) {
      try {
        // Shared, so that two who ask at the same time don't take each other for the holder.
        const descriptor = tryLock(path, constants.O_RDONLY, lockShared);
        if (descriptor === undefined) return true;
        closeSync(descriptor);
        return false;
      } catch {
        return false;
      }
    },
  };
}
