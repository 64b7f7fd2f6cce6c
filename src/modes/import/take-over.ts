/** Takes over a stock SPIRE server's data: reads its database and keys, and puts a database of ours in place. */
import { existsSync, lstatSync, statSync } from "node:fs";
import { type FileHandle, open, readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { RegistryCounts } from "../../core/registry-counts.ts";
import { parseTrustDomainOrId, type TrustDomain } from "../../core/spiffe-id.ts";
import { reasonOf } from "../../files/failure.ts";
import type { Store } from "../../plugins/datastores/index.ts";
import { inspectDatabase, isEmptyDatabase } from "../../plugins/datastores/sqlite/snapshot.ts";
import { setRevisions } from "../../plugins/datastores/sqlite/staged.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { createDiskKeyManager } from "../../plugins/key-managers/disk.ts";
import { formatJournal } from "../../server/journal.ts";
import { asOwnerOf } from "../backup/as-owner.ts";
import { type Held, holdDatabase } from "../backup/exclusive.ts";
import { authorityIdsOf, openOnce, type ServerData, type Workplace, withWorkplace } from "../backup/place.ts";
import {
  type Change,
  type Remark,
  takeEntries,
  takeNodes,
  takeRelationships,
  takeTokens,
} from "./records.ts";
import { openStockDatabase, type StockDatabase } from "./stock-database.ts";
import { readStoredBundle, readStoredJournal } from "./stock-values.ts";

export interface ImportJob extends ServerData {
  /** The stock server's SQLite database. */
  readonly from: string;
  /** The key file of its disk key manager. */
  readonly fromKeys?: string;
  /** Whether data that are there already are put aside. */
  readonly replace: boolean;
  readonly dryRun: boolean;
}

export interface ImportOutcome extends RegistryCounts {
  readonly schemaVersion: number;
  readonly codeVersion: string;
  /** X.509, JWT and WIT authorities of the journal that go on; 0 = the server makes new ones. */
  readonly authorities: number;
  /** Whether the source had a log that was not written back, as after a crash; it was read as well. */
  readonly hadLog: boolean;
  readonly skipped: readonly Remark[];
  readonly changed: readonly Remark[];
  /** Where what stood there before is now. */
  readonly aside: readonly string[];
}

/**
 * All of it, or nothing. The source is not touched.
 * @throws SpireError FAILED_PRECONDITION while a server has one of the databases open, when the target holds data, and
 * for a source of another trust domain or an unknown schema; INVALID_ARGUMENT for one that is no such database.
 */
export async function takeOver(job: ImportJob, clock: Clock): Promise<ImportOutcome> {
  const from = resolve(job.from);
  requireFile(from);
  const keys = job.fromKeys === undefined ? undefined : await readKeys(job.fromKeys, job.keysPath);
  await asOwnerOf(dirname(resolve(job.databasePath)), async () => refuseData(job));
  const source = await openSource(from);
  try {
    return await withWorkplace(job, { clock, dryRun: job.dryRun }, async (place) => {
      const hadLog = await source.copy(join(place.directory, "stock.sqlite3"));
      const stock = openStockDatabase(join(place.directory, "stock.sqlite3"), from);
      try {
        const taken = await fill(stock, { job, place, keys, clock });
        await openOnce(place.database, job.trustDomain, clock);
        const aside = job.dryRun ? [] : await place.put(keys);
        const { schemaVersion, codeVersion } = stock;
        return { ...taken, schemaVersion, codeVersion, hadLog, aside };
      } finally {
        stock.close();
      }
    });
  } finally {
    await source.close();
  }
}

function requireFile(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return;
  throw new SpireError("NOT_FOUND", `there is no file ${path}`);
}

async function readKeys(path: string, target: string | undefined): Promise<Buffer> {
  if (target === undefined) {
    const remedy = 'configure KeyManager "disk", or leave out -keys';
    throw new SpireError(
      "FAILED_PRECONDITION",
      `keys are taken over by the key manager disk alone: ${remedy}`,
    );
  }
  try {
    return await asOwnerOf(dirname(resolve(path)), () => readFile(path));
  } catch (cause) {
    throw new SpireError("NOT_FOUND", `key file ${path} can't be read: ${reasonOf(cause)}`, { cause });
  }
}

/** @throws SpireError FAILED_PRECONDITION when the target holds anything and may not be put aside. */
function refuseData({ databasePath, keysPath, fromKeys, replace }: ImportJob): void {
  if (replace) return;
  const remedy = "name another data directory, or put it aside by -force";
  if (existsSync(databasePath) && statSync(databasePath).size > 0) {
    const isEmpty = isEmptyDatabase(inspectDatabase(databasePath));
    if (!isEmpty)
      throw new SpireError("FAILED_PRECONDITION", `${databasePath} holds data already: ${remedy}`);
  }
  if (fromKeys === undefined || keysPath === undefined || !existsSync(keysPath)) return;
  if (resolve(fromKeys) === resolve(keysPath)) return;
  throw new SpireError("FAILED_PRECONDITION", `there is a key file ${keysPath} already: ${remedy}`);
}

/** The stock server's files, open. Root opens them as who owns their directory: links there may lead anywhere. */
interface Source {
  /** @returns whether there was a log. */
  copy(to: string): Promise<boolean>;
  close(): Promise<void>;
}

/** Also what can't be read: without its log, a database may make sense and lack what was written last. */
const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

/** @throws SpireError FAILED_PRECONDITION while a process has it open. */
function openSource(from: string): Promise<Source> {
  return asOwnerOf(dirname(from), async () => {
    const files: { readonly end: string; readonly file: FileHandle }[] = [];
    let held: Held | undefined;
    const close = async () => {
      for (const { file } of files) await file.close();
      held?.release();
    };
    try {
      held = holdDatabase(from);
      for (const end of ["", "-wal"].filter((end) => isThere(from + end))) {
        files.push({ end, file: await open(from + end, "r") });
      }
    } catch (cause) {
      await close();
      if (cause instanceof SpireError) throw cause;
      throw new SpireError("FAILED_PRECONDITION", `${from} can't be read: ${reasonOf(cause)}`, { cause });
    }
    return {
      async copy(to) {
        for (const { end, file } of files) {
          const chunks = file.createReadStream({ autoClose: false, start: 0 });
          await writeFile(to + end, chunks, { mode: 0o600, flag: "wx" });
        }
        return (statSync(`${to}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;
      },
      close,
    };
  });
}

interface Filling {
  readonly job: ImportJob;
  readonly place: Workplace;
  readonly keys: Buffer | undefined;
  readonly clock: Clock;
}

type Taken = Omit<ImportOutcome, "schemaVersion" | "codeVersion" | "hadLog" | "aside">;

async function fill(stock: StockDatabase, { job, place, keys, clock }: Filling): Promise<Taken> {
  const { trustDomain } = job;
  const skipped: Remark[] = [];
  const changed: Remark[] = [];
  const remarks = {
    skip: (remark: Remark) => skipped.push(remark),
    change: (remark: Remark) => changed.push(remark),
  };
  const change: Change = { trustDomain, now: unixSeconds(clock), ...remarks };
  const revisions = new Map<string, number>();
  const keyIds = keys ? await keyIdsOf(keys, place) : [];
  const store = await createSqliteStore({ path: place.database, clock });
  try {
    const counts = await store.transaction(async (groups) => {
      const bundles = await takeBundles(stock, groups, change);
      return {
        bundles: bundles.size,
        federationRelationships: await takeRelationships(stock, groups, change),
        entries: await takeEntries(stock, groups, change, { bundles, revisions }),
        ...(await takeNodes(stock, groups, change)),
        joinTokens: await takeTokens(stock, groups, change),
        authorities: await takeJournal(stock, groups, keyIds, change),
      };
    });
    return { ...counts, skipped, changed };
  } finally {
    await store.close();
    setRevisions(place.database, revisions);
  }
}

/** Authority IDs of the keys. @throws SpireError FAILED_PRECONDITION for a damaged file. */
async function keyIdsOf(keys: Buffer, { directory }: Workplace): Promise<readonly string[]> {
  const path = join(directory, "keys.json");
  await writeFile(path, keys, { mode: 0o600 });
  return authorityIdsOf(createDiskKeyManager({ path }));
}

type Groups = Omit<Store, "transaction" | "close">;

/** @throws SpireError FAILED_PRECONDITION when the trust domain's own is not there. */
async function takeBundles(
  stock: StockDatabase,
  groups: Groups,
  change: Change,
): Promise<ReadonlySet<TrustDomain>> {
  const taken = new Set<TrustDomain>();
  const rows = stock.bundles();
  for (const { trust_domain: id, data } of rows) {
    try {
      const trustDomain = parseTrustDomainOrId(id);
      const bundle = readStoredBundle(trustDomain, data);
      await groups.bundles.mutate(trustDomain, () => bundle);
      taken.add(trustDomain);
    } catch (error) {
      change.skip({ kind: "bundle", id, reason: SpireError.from(error).message });
    }
  }
  if (taken.has(change.trustDomain)) return taken;
  const found = rows.map((row) => row.trust_domain).join(", ");
  throw new SpireError(
    "FAILED_PRECONDITION",
    `the database has no bundle of trust domain "${change.trustDomain}"; it has ${found || "none"}`,
  );
}

/** Takes the journals that the keys belong to; servers that share a database have one each. @returns authorities. */
async function takeJournal(
  stock: StockDatabase,
  groups: Groups,
  keyIds: readonly string[],
  { skip }: Change,
): Promise<number> {
  let taken = 0;
  for (const { id, data } of stock.journals()) {
    const changes = readStoredJournal(data);
    const active = changes.findLast(({ kind, entry }) => kind === "x509" && entry.status === "active")?.entry;
    if (active && changes.some(({ kind, entry }) => kind === "x509" && keyIds.includes(entry.authorityId))) {
      const entries = (wanted: string) =>
        changes.filter(({ kind }) => kind === wanted).map(({ entry }) => entry);
      const data = formatJournal({ x509: entries("x509"), jwt: entries("jwt"), wit: entries("wit") });
      await groups.journals.put({ activeX509AuthorityId: active.authorityId, data }, undefined);
      taken += changes.length;
      continue;
    }
    const reason =
      keyIds.length === 0
        ? "its keys were not given (-keys); the server makes new authorities"
        : "no key of it is in the key file; it is another server's that shares the database";
    skip({ kind: "authorities", id: `journal ${id}`, reason });
  }
  return taken;
}
