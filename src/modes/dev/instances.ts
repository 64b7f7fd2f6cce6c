/** The development instances of a user: a private directory each, locked while the instance lives. */
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import { createFileLocks, type FileLocks } from "./file-lock.ts";
import { checkPrivateDirectory, instancesDirectory, makePrivateDirectory } from "./private-directory.ts";

/** What an instance tells others of the same user, in `instance.json`. */
export interface InstanceRecord {
  readonly name: string;
  readonly pid: number;
  readonly trust_domain: string;
  readonly server_address: string;
  /** What a client's environment should hold. */
  readonly env: Readonly<Record<string, string>>;
  /** A directory outside the instance's own that holds its sockets and goes with it. */
  readonly temporary_directory?: string;
}

/** A directory that this process owns until `release`. */
export interface RunDirectory {
  readonly name: string;
  readonly path: string;
  /** Publishes the instance to `dev env`, or replaces what was published. */
  publish(record: InstanceRecord): void;
  /** Removes the directory and all in it. */
  release(): void;
}

const lockFile = "lock";
const recordFile = "instance.json";
/** A directory that is not an instance yet. */
const unborn = ".new-";
const namePattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/** Where this process looks for instances. */
export const ownInstancesDirectory = (): string =>
  instancesDirectory({
    runtimeDirectory: process.env["XDG_RUNTIME_DIR"],
    temporaryDirectory: tmpdir(),
    uid: currentUid(),
  });

export const currentUid = (): number => process.getuid?.() ?? 0;

/**
 * Takes a directory below `base` for a new instance and clears away those whose process is gone. Without a name
 * the instance becomes `dev`, `dev-2`, and so on.
 * @throws SpireError INVALID_ARGUMENT for a bad name, ALREADY_EXISTS when an instance of that name runs,
 * FAILED_PRECONDITION when `base` is not private.
 */
export function takeRunDirectory(base: string, name?: string): RunDirectory {
  if (name !== undefined && !namePattern.test(name)) {
    throw invalidArgument(
      `"${name}" is no instance name: up to 64 letters, numbers, dots, dashes, underscores`,
    );
  }
  const { path: fresh, release } = makeLocked(base, createFileLocks());
  const taken = name === undefined ? moveToFreeName(base, fresh) : moveToName(base, fresh, name);
  if (taken === undefined) {
    rmSync(fresh, { recursive: true, force: true });
    release();
    throw new SpireError("ALREADY_EXISTS", `an instance named "${name}" runs already`);
  }
  const path = join(base, taken);
  return {
    name: taken,
    path,
    publish(record) {
      const temporary = join(path, `.${recordFile}`);
      writeFileSync(temporary, `${JSON.stringify(record)}\n`, { mode: 0o600 });
      renameSync(temporary, join(path, recordFile));
    },
    release() {
      rmSync(path, { recursive: true, force: true });
      release();
      removeIfEmpty(base);
    },
  };
}

function removeIfEmpty(base: string): void {
  try {
    rmdirSync(base);
  } catch {
    // Other instances are in it.
  }
}

/** The lock is held before the directory gets its name, so a named directory without a holder is a dead one. */
function makeLocked(base: string, locks: FileLocks): { path: string; release: () => void } {
  for (let attempt = 1; ; attempt += 1) {
    makePrivateDirectory(base, currentUid());
    try {
      clearDeadInstances(base, locks);
      const path = mkdtempSync(join(base, unborn));
      chmodSync(path, 0o700);
      const lock = locks.take(join(path, lockFile));
      if (lock) return { path, release: lock.release };
    } catch (error) {
      // Another instance cleared away what was just made: its last one ended, or it took this for a dead one.
      if (attempt === 5) throw error;
    }
  }
}

function moveToFreeName(base: string, fresh: string): string {
  for (let number = 1; ; number += 1) {
    const taken = moveToName(base, fresh, number === 1 ? "dev" : `dev-${number}`);
    if (taken !== undefined) return taken;
  }
}

/** Renaming onto a directory that is not empty fails: of two instances, one gets the name. */
function moveToName(base: string, fresh: string, name: string): string | undefined {
  try {
    renameSync(fresh, join(base, name));
    return name;
  } catch (error) {
    if (isErrno(error, "ENOTEMPTY", "EEXIST", "ENOTDIR")) return undefined;
    throw error;
  }
}

const isErrno = (error: unknown, ...codes: string[]): boolean =>
  error instanceof Error && "code" in error && codes.includes(String(error.code));

function clearDeadInstances(base: string, locks: FileLocks): void {
  for (const name of readdirSync(base)) {
    const path = join(base, name);
    try {
      const lock = locks.take(join(path, lockFile));
      if (!lock) continue;
      const left = readRecord(path)?.temporary_directory;
      if (left !== undefined && checkPrivateDirectory(left, currentUid())) rmSync(left, { recursive: true });
      rmSync(path, { recursive: true, force: true });
      lock.release();
    } catch {
      // Not an instance's, or another start clears it at this moment: nothing that this start depends on.
    }
  }
}

/** The instances that run and are ready, by name. @throws SpireError FAILED_PRECONDITION when `base` is not private. */
export function listInstances(base: string): InstanceRecord[] {
  if (!checkPrivateDirectory(base, currentUid())) return [];
  const locks = createFileLocks();
  return readdirSync(base)
    .filter((name) => !name.startsWith(unborn) && locks.isHeld(join(base, name, lockFile)))
    .flatMap((name) => readRecord(join(base, name)) ?? [])
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readRecord(directory: string): InstanceRecord | undefined {
  try {
    const record: unknown = JSON.parse(readFileSync(join(directory, recordFile), "utf8"));
    return isRecord(record) ? record : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is InstanceRecord {
  if (typeof value !== "object" || value === null) return false;
  const { name, pid, trust_domain, server_address, env } = value as Partial<
    Record<keyof InstanceRecord, unknown>
  >;
  const texts = [name, trust_domain, server_address].every((text) => typeof text === "string");
  return texts && typeof pid === "number" && typeof env === "object" && env !== null;
}

/** The instances of this user that run and are ready. @throws SpireError FAILED_PRECONDITION, see `listInstances`. */
export const listOwnInstances = (): InstanceRecord[] => listInstances(ownInstancesDirectory());
