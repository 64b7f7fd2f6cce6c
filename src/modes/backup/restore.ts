/** Puts a backup in the place of a server's data: all checks first, then one step that a crash can't cut in two. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import { newestSchema } from "../../plugins/datastores/sqlite/migrations.ts";
import { prepareRestored, type Restored } from "../../plugins/datastores/sqlite/restored.ts";
import { isAsSealed } from "../../plugins/datastores/sqlite/seal.ts";
import { copyFiles } from "../../plugins/datastores/sqlite/snapshot.ts";
import { type Archive, openArchive } from "../../server/backup/archive.ts";
import type { BackupManifest } from "../../server/backup/manifest.ts";
import { hasAuthorities, openOnce, type ServerData, type Workplace, withWorkplace } from "./place.ts";
import { compareWithManifest } from "./prove.ts";

export interface RestoreJob extends ServerData {
  readonly file: string;
  /** Whether the backup's keys, bundle and CA journal take the place of the present ones. */
  readonly withKeys: boolean;
  /** Agents to be banned afterwards. */
  readonly bans: readonly SpiffeId[];
  /** Only tells what would happen. */
  readonly dryRun: boolean;
}

/** What signs after the restore. */
export type AuthorityOutcome =
  /** As before it: bundle, journal and keys were left alone. */
  | "kept"
  /** Bundle and journal of the backup, with keys that fit them. */
  | "restored"
  /** No key fits the journal: the server makes new authorities, which no agent knows. */
  | "new";

export interface RestoreOutcome extends Restored {
  readonly manifest: BackupManifest;
  /** Why the present database can't be relied on; undefined when it can, or there is none. */
  readonly presentProblem?: string;
  readonly authorities: AuthorityOutcome;
  /** Whether the key file is the backup's. */
  readonly keysRestored: boolean;
  /** Where what stood there before is now. */
  readonly aside: readonly string[];
}

/**
 * @throws SpireError FAILED_PRECONDITION when a server runs on the data, and for a backup of another trust domain or
 * of a newer program; DATA_LOSS for a damaged backup. Then nothing was changed.
 */
export async function restoreBackup(job: RestoreJob, clock: Clock): Promise<RestoreOutcome> {
  // Root reads it as root, also where the data are another user's.
  const archive = await openArchive(job.file);
  try {
    return await restoreFrom(archive, job, clock);
  } finally {
    await archive.close();
  }
}

async function restoreFrom(archive: Archive, job: RestoreJob, clock: Clock): Promise<RestoreOutcome> {
  requireFitting(job, archive.manifest);
  const keys = await chooseKeys(job, archive);
  return withWorkplace(job, { clock, dryRun: job.dryRun }, async (place) => {
    await archive.extractDatabase(place.database);
    compareWithManifest(archive, place.database);
    await openOnce(place.database, job.trustDomain, clock);
    const { problem, ...present } = await readPresent(job, place, clock);
    const keepAuthorities = present.isTrusted && !keys;
    const restored = prepareRestored(place.database, {
      trustDomain: job.trustDomain,
      bans: job.bans,
      keepAuthorities,
      ...(present.path === undefined ? {} : { present: { ...present, path: present.path } }),
    });
    const fits = await fitsKeys(job, place, keys, clock);
    const aside = job.dryRun ? [] : await place.put(keys);
    return {
      ...restored,
      manifest: archive.manifest,
      ...(problem === undefined ? {} : { presentProblem: problem }),
      authorities: fits ? (keepAuthorities ? "kept" : "restored") : "new",
      keysRestored: keys !== undefined,
      aside,
    };
  });
}

/** @throws SpireError FAILED_PRECONDITION. */
function requireFitting({ file, trustDomain }: RestoreJob, manifest: BackupManifest): void {
  if (manifest.trustDomain !== trustDomain) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `backup ${file} is of trust domain "${manifest.trustDomain}", and this server is for "${trustDomain}"`,
    );
  }
  if (manifest.schemaVersion <= newestSchema) return;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `backup ${file} has schema version ${manifest.schemaVersion}, written by a newer program ` +
      `(${manifest.programVersion}); this one knows version ${newestSchema}: restore it by that program`,
  );
}

/** The keys to put in place, if any. @throws SpireError FAILED_PRECONDITION when they are asked for and not there. */
async function chooseKeys(
  { withKeys, keysPath, file }: RestoreJob,
  archive: Archive,
): Promise<Buffer | undefined> {
  const keys = await archive.readKeys();
  if (withKeys && !keys) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `backup ${file} holds no CA keys; restore it without -withKeys`,
    );
  }
  if (withKeys && keysPath === undefined) {
    const remedy = "leave out -withKeys";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `keys are restored for the key manager disk alone; ${remedy}`,
    );
  }
  return withKeys || (keysPath !== undefined && !existsSync(keysPath)) ? keys : undefined;
}

interface Present {
  /** Of a copy; undefined when there is no database, or none that can be read. */
  readonly path?: string;
  readonly isTrusted: boolean;
  readonly problem?: string;
}

/** @throws SpireError FAILED_PRECONDITION when it is another trust domain's. */
async function readPresent(
  { databasePath, trustDomain }: ServerData,
  place: Workplace,
  clock: Clock,
): Promise<Present> {
  if (!existsSync(databasePath)) return { isTrusted: false };
  const path = join(place.directory, "present.sqlite3");
  const isTrusted = await isAsSealed(databasePath);
  copyFiles(databasePath, path);
  try {
    await openOnce(path, trustDomain, clock);
  } catch (error) {
    const { code, message } = SpireError.from(error);
    if (code === "FAILED_PRECONDITION" && message.includes("trust domain")) throw error;
    return {
      isTrusted: false,
      problem: message.replaceAll(path, databasePath).replace(/; restore it .*/, ""),
    };
  }
  return { path, isTrusted, ...(isTrusted ? {} : { problem: "it is not as the server left it" }) };
}

/** Whether a server started on the new data goes on with an authority. @throws SpireError for keys that are damaged. */
async function fitsKeys(
  { keysPath }: ServerData,
  place: Workplace,
  keys: Buffer | undefined,
  clock: Clock,
): Promise<boolean> {
  const staged = join(place.directory, "keys.json");
  if (keys) await writeFile(staged, keys, { mode: 0o600 });
  try {
    return await hasAuthorities(place.database, keys ? staged : keysPath, clock);
  } catch (error) {
    throw SpireError.from(error).within(
      keys ? "the keys in the backup" : "the present keys; if the backup holds keys, add -withKeys",
    );
  }
}
