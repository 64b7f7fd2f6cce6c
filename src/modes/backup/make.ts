/** Makes a backup of a server's data: a copy of the database as it is now, proven, under its name in one step. */
import { constants, existsSync, rmSync, statSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { version } from "../../../package.json";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { reasonOf } from "../../files/failure.ts";
import { placeFile } from "../../files/place-file.ts";
import { makeWorkDirectory } from "../../files/work-directory.ts";
import { hasPlan } from "../../plugins/datastores/sqlite/replacement.ts";
import { requireOwnPlan } from "../../plugins/datastores/sqlite/replacement-plan.ts";
import { copyDatabase, inspectDatabase } from "../../plugins/datastores/sqlite/snapshot.ts";
import { writeArchive } from "../../server/backup/archive.ts";
import type { BackupManifest } from "../../server/backup/manifest.ts";
import { refuseForeignFiles } from "../../server/data-dir.ts";
import { asOwnerOf, foreignOwnerOf } from "./as-owner.ts";
import { proveBackup } from "./prove.ts";

export interface BackupJob {
  readonly trustDomain: TrustDomain;
  readonly databasePath: string;
  /** The file of the disk key manager; undefined = keys are left out. */
  readonly keysPath?: string;
  /** The file to make. */
  readonly target: string;
  /** Whether a file that is there goes. */
  readonly replace: boolean;
}

/**
 * The server may run or not. Nothing has the target's name before it is whole, on disk and proven.
 * @throws SpireError ALREADY_EXISTS for a target that is there; NOT_FOUND without a database; DATA_LOSS when that is
 * damaged; FAILED_PRECONDITION when it is another trust domain's, or the target can't be written.
 */
export async function makeBackup(job: BackupJob, clock: Clock): Promise<BackupManifest> {
  const target = resolve(job.target);
  const folders = { data: dirname(resolve(job.databasePath)), target: dirname(target) };
  const dataOwner = foreignOwnerOf(folders.data)?.uid;
  const targetOwner = foreignOwnerOf(folders.target)?.uid;
  if (targetOwner !== undefined && targetOwner !== dataOwner) throw notForThem(target, targetOwner);
  const work = { ...job, target };
  if (dataOwner === targetOwner) return asOwnerOf(folders.data, () => make(work, clock));
  return withCopyOf(job, (copy) => make(work, clock, copy));
}

/** Writes the copy of the database to a path that is not there yet. */
type Copy = (to: string) => Promise<void>;

/** Root's directory takes a copy that was made as the owner of the data in theirs. */
async function withCopyOf<T>(job: BackupJob, work: (copy: Copy) => Promise<T>): Promise<T> {
  const folder = dirname(resolve(job.databasePath));
  const copied = await asOwnerOf(folder, async () => {
    requireWhole(job);
    const directory = workIn(folder, `a copy of ${job.databasePath}`);
    try {
      const path = join(directory, "database.sqlite3");
      copyDatabase(job.databasePath, path);
      return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    } finally {
      // An open file lasts without its name.
      rmSync(directory, { recursive: true, force: true });
    }
  });
  try {
    return await work(async (to) => {
      const chunks = copied.createReadStream({ autoClose: false, start: 0 });
      await writeFile(to, chunks, { mode: 0o600, flag: "wx" });
    });
  } finally {
    await copied.close();
  }
}

async function make(
  job: BackupJob,
  clock: Clock,
  copyTo: Copy = async (to) => {
    requireWhole(job);
    copyDatabase(job.databasePath, to);
  },
): Promise<BackupManifest> {
  const { target } = job;
  if (!job.replace && existsSync(target)) throw taken(target);
  const work = workBeside(target);
  try {
    const copy = join(work, "database.sqlite3");
    await copyTo(copy);
    const { schemaVersion, sequence, ...counts } = inspectDatabase(copy);
    const keys = job.keysPath === undefined ? undefined : await readKeyFile(job.keysPath);
    const unproven = join(work, basename(target));
    const facts = {
      trustDomain: job.trustDomain,
      schemaVersion,
      createdAt: new Date(clock.now()).toISOString(),
      programVersion: version,
      sequence,
      counts,
    };
    const manifest = await writeArchive(unproven, facts, copy, keys);
    rmSync(copy);
    await proveBackup(unproven, work, job.trustDomain, clock);
    await place(unproven, target, job.replace);
    return manifest;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** @throws SpireError FAILED_PRECONDITION when a restore was interrupted, and for files that somebody else put there. */
function requireWhole({ databasePath, keysPath }: BackupJob): void {
  refuseForeignFiles({ databasePath, keysPath });
  if (!hasPlan(databasePath)) return;
  requireOwnPlan(databasePath);
  const remedy = "start the server, or restore again, to finish it";
  throw new SpireError("FAILED_PRECONDITION", `a restore of ${databasePath} was interrupted: ${remedy}`);
}

const notForThem = (target: string, uid: number): SpireError =>
  new SpireError(
    "FAILED_PRECONDITION",
    `${target} lies in a directory of uid ${uid}, whose the data are not: name a file in a directory of your own`,
  );

const taken = (target: string): SpireError =>
  new SpireError("ALREADY_EXISTS", `${target} exists already; name another file, or replace it by -force`);

/** Beside the target, so that the last step is a rename. */
function workBeside(target: string): string {
  if (statSync(target, { throwIfNoEntry: false })?.isDirectory()) {
    throw new SpireError("INVALID_ARGUMENT", `${target} is a directory; name the file to make in it`);
  }
  return workIn(dirname(target), target);
}

/** @param written what can't be written when it can't be made. */
function workIn(folder: string, written: string): string {
  try {
    return makeWorkDirectory(folder);
  } catch (cause) {
    throw new SpireError("FAILED_PRECONDITION", `${written} can't be written: ${reasonOf(cause)}`, { cause });
  }
}

async function readKeyFile(path: string): Promise<Buffer> {
  try {
    return await asOwnerOf(dirname(resolve(path)), () => readFile(path));
  } catch (cause) {
    throw new SpireError("FAILED_PRECONDITION", `key file ${path} can't be read: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

async function place(unproven: string, target: string, replace: boolean): Promise<void> {
  try {
    await placeFile(unproven, target, replace);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") throw taken(target);
    throw new SpireError("FAILED_PRECONDITION", `${target} can't be written: ${reasonOf(cause)}`, { cause });
  }
}
