/** Data of a server that are made ready in a directory of their own and take the place of the present ones. */
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { exportPublicKeyInfo } from "../../core/keys.ts";
import { nullLogger } from "../../core/log.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { authorityId } from "../../core/x509/certificate.ts";
import { reasonOf } from "../../files/failure.ts";
import { unfinishedName, writeSynced } from "../../files/replace-file.ts";
import { giveToOwnerOf, makeWorkDirectory } from "../../files/work-directory.ts";
import {
  finishReplacement,
  hasPlan,
  isReplacing,
  replaceDatabase,
} from "../../plugins/datastores/sqlite/replacement.ts";
import type { Replaceable, Replaced } from "../../plugins/datastores/sqlite/replacement-plan.ts";
import { removeSeal } from "../../plugins/datastores/sqlite/seal.ts";
import { makeSelfContained } from "../../plugins/datastores/sqlite/staged.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { createDiskKeyManager } from "../../plugins/key-managers/disk.ts";
import type { KeyManager } from "../../plugins/key-managers/index.ts";
import { keysOf } from "../../server/authority-line.ts";
import { refuseForeignData, refuseForeignFiles } from "../../server/data-dir.ts";
import { openJournal } from "../../server/journal.ts";
import { asOwnerOf, foreignOwnerOf } from "./as-owner.ts";
import { holdDatabase, refuseRunning } from "./exclusive.ts";

/** Where the data of a server are. */
export interface ServerData {
  readonly trustDomain: TrustDomain;
  readonly databasePath: string;
  readonly socketPath: string;
  /** The file of the disk key manager; undefined = another key manager. */
  readonly keysPath?: string;
}

/** A directory to make the new data in, while nobody uses the present ones. */
export interface Workplace {
  readonly directory: string;
  /** Where the new database is to be made. */
  readonly database: string;
  /**
   * Puts the database, and keys if there are any, in place.
   * @param keys the content of the key file. @returns where what stood there before is now.
   */
  put(keys: Buffer | undefined): Promise<readonly string[]>;
}

/**
 * Runs `work` while no process has the database open, root as the owner of the data. Leaves nothing but what was put.
 * @throws SpireError FAILED_PRECONDITION when a server runs on the data, or they can't be written.
 */
export async function withWorkplace<T>(
  data: ServerData,
  { clock, dryRun }: { readonly clock: Clock; readonly dryRun: boolean },
  work: (place: Workplace) => Promise<T>,
): Promise<T> {
  await refuseRunning(data.socketPath);
  requireOneOwner(data);
  return asOwnerOf(dirname(data.databasePath), () => inPlaceOf(data, { clock, dryRun }, work));
}

/** @throws SpireError FAILED_PRECONDITION when root would write keys where another user can put links. */
function requireOneOwner({ databasePath, keysPath }: ServerData): void {
  if (keysPath === undefined || foreignOwnerOf(dirname(databasePath))) return;
  const owner = foreignOwnerOf(dirname(keysPath));
  if (!owner) return;
  const remedy = "keep both in directories of one user, and run this as that user";
  throw new SpireError(
    "FAILED_PRECONDITION",
    `key file ${keysPath} lies in a directory of uid ${owner.uid}, and ${databasePath} in one of root's: ${remedy}`,
  );
}

async function inPlaceOf<T>(
  data: ServerData,
  { clock, dryRun }: { readonly clock: Clock; readonly dryRun: boolean },
  work: (place: Workplace) => Promise<T>,
): Promise<T> {
  const databasePath = resolve(data.databasePath);
  const files = { databasePath, keysPath: data.keysPath };
  refuseForeignFiles(files);
  await finishEarlier(files, dryRun);
  const folder = makeFolder(databasePath, dryRun);
  const held = holdDatabase(databasePath);
  const directory = makeWorkDirectory(folder);
  const database = join(directory, basename(databasePath));
  try {
    return await work({
      directory,
      database,
      async put(keys) {
        makeSelfContained(database);
        giveToOwnerOf(folder, database);
        const stagedKeys =
          keys && data.keysPath !== undefined ? await stageKeys(data.keysPath, keys) : undefined;
        const replaced = [
          replacedBy(database, databasePath, clock),
          ...(stagedKeys ? [replacedBy(stagedKeys, resolve(data.keysPath ?? ""), clock)] : []),
        ];
        const aside = replaced.filter(({ target }) => existsSync(target)).map((item) => item.aside);
        await replaceDatabase(files, replaced, directory);
        return aside;
      },
    });
  } finally {
    if (!hasPlan(databasePath)) rmSync(directory, { recursive: true, force: true });
    held.release();
  }
}

async function finishEarlier(files: Replaceable, dryRun: boolean): Promise<void> {
  if (!isReplacing(files)) return;
  if (!dryRun) return finishReplacement(files);
  const { databasePath } = files;
  const remedy = "start the server, or restore without -dryRun, to finish it";
  throw new SpireError("FAILED_PRECONDITION", `a restore of ${databasePath} was interrupted: ${remedy}`);
}

/** Where files can be made that are renamed to the database; without a folder of its own, a dry run takes another. */
function makeFolder(databasePath: string, dryRun: boolean): string {
  const folder = dirname(databasePath);
  if (dryRun && !existsSync(folder)) return tmpdir();
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  } catch (cause) {
    throw new SpireError("FAILED_PRECONDITION", `${folder} can't be made: ${reasonOf(cause)}`, { cause });
  }
}

/** Beside the key file, on disk. */
async function stageKeys(keysPath: string, keys: Buffer): Promise<string> {
  const target = resolve(keysPath);
  const staged = unfinishedName(target);
  try {
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    await writeSynced(staged, keys.toString("utf8"), 0o600);
    giveToOwnerOf(dirname(target), staged);
    return staged;
  } catch (cause) {
    throw new SpireError("FAILED_PRECONDITION", `key file ${target} can't be written: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

function replacedBy(staged: string, target: string, clock: Clock): Replaced {
  const time = new Date(clock.now()).toISOString().replace(/[-:]|\.\d+/g, "");
  const aside = `${target}.before-${time}`;
  const free = (n: number): string => {
    const name = n === 1 ? aside : `${aside}-${n}`;
    return existsSync(name) || existsSync(`${name}-wal`) ? free(n + 1) : name;
  };
  return { staged, target, aside: free(1) };
}

/** Brings the schema up to date. @throws SpireError as a start of the server would. */
export async function openOnce(path: string, trustDomain: TrustDomain, clock: Clock): Promise<void> {
  const store = await createSqliteStore({ path, clock });
  try {
    await refuseForeignData(store, trustDomain);
  } finally {
    await store.close();
    removeSeal(path);
  }
}

/**
 * Whether a server that starts on this database and these keys has an X.509 authority to go on with.
 * @param keysPath undefined = no keys.
 */
export async function hasAuthorities(
  databasePath: string,
  keysPath: string | undefined,
  clock: Clock,
): Promise<boolean> {
  if (keysPath === undefined || !existsSync(keysPath)) return false;
  const store = await createSqliteStore({ path: databasePath, clock });
  try {
    const ids = await authorityIdsOf(createDiskKeyManager({ path: keysPath }));
    const journal = await openJournal(store.journals, ids, nullLogger);
    return journal
      .entries("x509")
      .some(({ status, authorityId }) => status === "active" && ids.includes(authorityId));
  } finally {
    await store.close();
    removeSeal(databasePath);
  }
}

/** Of the X.509 keys that a key manager has. */
export const authorityIdsOf = async (keyManager: KeyManager): Promise<readonly string[]> =>
  (await keysOf(keyManager, "x509")).map(({ publicKey }) => authorityId(exportPublicKeyInfo(publicKey)));
