/** Makes a backup of a server's data: a copy of the database as it is now, proven, under its name in one step. */
import { existsSync, rmSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { version } from "../../../package.json";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { reasonOf } from "../../files/failure.ts";
import { placeFile } from "../../files/place-file.ts";
import { makeWorkDirectory } from "../../files/work-directory.ts";
import { isReplacing } from "../../plugins/datastores/sqlite/replacement.ts";
import { copyDatabase, inspectDatabase } from "../../plugins/datastores/sqlite/snapshot.ts";
import { writeArchive } from "../../server/backup/archive.ts";
import type { BackupManifest } from "../../server/backup/manifest.ts";
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
  if (!job.replace && existsSync(target)) throw taken(target);
  if (isReplacing(job.databasePath)) {
    const remedy = "start the server, or restore again, to finish it";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `a restore of ${job.databasePath} was interrupted: ${remedy}`,
    );
  }
  const work = workBeside(target);
  try {
    const copy = join(work, "database.sqlite3");
    copyDatabase(job.databasePath, copy);
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

const taken = (target: string): SpireError =>
  new SpireError("ALREADY_EXISTS", `${target} exists already; name another file, or replace it by -force`);

/** Beside the target, so that the last step is a rename. */
function workBeside(target: string): string {
  try {
    if (statSync(target, { throwIfNoEntry: false })?.isDirectory()) {
      throw new SpireError("INVALID_ARGUMENT", `${target} is a directory; name the file to make in it`);
    }
    return makeWorkDirectory(dirname(target));
  } catch (cause) {
    if (cause instanceof SpireError) throw cause;
    throw new SpireError("FAILED_PRECONDITION", `${target} can't be written: ${reasonOf(cause)}`, { cause });
  }
}

async function readKeyFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
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
