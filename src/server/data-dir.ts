/** Whether state on disk belongs to this server, before anything is written to it. */
import { accessSync, constants, existsSync, mkdirSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type TrustDomain, trustDomainOf } from "../core/spiffe-id.ts";
import { reasonOf } from "../files/failure.ts";
import { type ForeignPart, findForeignPart } from "../files/foreign-part.ts";
import type { Store } from "../plugins/datastores/index.ts";

/** A development instance leaves this in its state directory. */
const devMarker = "dev.json";

interface DataDir {
  readonly dataDir: string;
  readonly dev: boolean;
}

/**
 * Looks whether the directory can be the server's, and changes nothing. Warns when it is somebody else's.
 * @throws SpireError FAILED_PRECONDITION when it is a development instance's and `dev` is not set, when somebody else
 * made it or a directory above it in a shared one, when everybody may write to it, or when the server can't.
 */
export function checkDataDir({ dataDir, dev }: DataDir, log: Logger): void {
  if (!dev && existsSync(join(dataDir, devMarker))) {
    const reason = "its keys were made for development; start the server in a directory of its own";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `"${dataDir}" is the state of a "spire dev" instance: ${reason}`,
    );
  }
  const foreign = findForeignPart(dataDir);
  if (foreign) {
    const reason = "who made it could put other keys in the place of the server's";
    throw new SpireError("FAILED_PRECONDITION", `"${foreign.path}" belongs to ${foreign.owner}: ${reason}`);
  }
  const found = statSync(dataDir, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isDirectory()) {
    const message = `data directory "${dataDir}" is not a directory; remove it, or choose another data_dir`;
    throw new SpireError("FAILED_PRECONDITION", message);
  }
  checkRights(dataDir, found, log);
}

/** What SQLite and a restore leave beside a database, and what the next start acts on. */
const besideDatabase = ["", "-wal", "-shm", "-journal", ".replacing"];

interface StateFiles {
  /** `:memory:` is no file. */
  readonly databasePath: string;
  /** Undefined = keys are in no file. */
  readonly keysPath: string | undefined;
}

/**
 * Looks who made the files, before anything of them is read: also outside of the data directory, such as a database
 * that is kept in /tmp.
 * @throws SpireError FAILED_PRECONDITION for one that somebody else has made in a shared directory.
 */
export function refuseForeignFiles({ databasePath, keysPath }: StateFiles): void {
  const database = databasePath === ":memory:" ? [] : besideDatabase.map((end) => `${databasePath}${end}`);
  for (const path of keysPath === undefined ? database : [...database, keysPath]) {
    const foreign = foreignPartOf(path);
    if (!foreign) continue;
    const reason = "who made it could put other keys, entries and files in the place of the server's";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `"${foreign.path}" belongs to ${foreign.owner} and lies where anybody may have made it: ${reason}; remove it, or choose another place`,
    );
  }
}

/** A path that can't be followed, such as one below a file, is for who opens it to tell. */
function foreignPartOf(path: string): ForeignPart | undefined {
  try {
    return findForeignPart(path);
  } catch {
    return undefined;
  }
}

const writableByEverybody = 0o002;
const root = 0;

function checkRights(dataDir: string, { mode, uid }: Stats, log: Logger): void {
  if ((mode & writableByEverybody) !== 0) {
    const octal = (mode & 0o777).toString(8);
    const message = `data directory "${dataDir}" has mode 0${octal}: everybody may put other keys in it; run chmod 700 "${dataDir}"`;
    throw new SpireError("FAILED_PRECONDITION", message);
  }
  const own = process.getuid?.() ?? root;
  if (uid !== own && uid !== root) {
    const remedy = `run chown ${own} "${dataDir}"`;
    log.warn("The data directory belongs to another user, who can put other keys in it", {
      data_dir: dataDir,
      owner: `uid ${uid}`,
      remedy,
    });
  }
  try {
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    const message = `data directory "${dataDir}" can't be used: ${reasonOf(cause)}`;
    throw new SpireError("FAILED_PRECONDITION", message, { cause });
  }
}

/** Makes the directory (0700) when it is missing. @throws SpireError FAILED_PRECONDITION when it can't be made. */
export function claimDataDir({ dataDir }: Pick<DataDir, "dataDir">): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `data directory "${dataDir}" can't be made: ${reasonOf(cause)}`,
      {
        cause,
      },
    );
  }
}

const firstOne = { size: 1, token: "" };

/**
 * Looks whose agents, entries and bundles a store holds; the trust domain's own bundle is in it from its first
 * start on.
 * @throws SpireError FAILED_PRECONDITION naming both trust domains.
 */
export async function refuseForeignData(store: Store, trustDomain: TrustDomain): Promise<void> {
  const [{ items: nodes }, { items: entries }, ownBundle] = await Promise.all([
    store.nodes.list({}, firstOne),
    store.entries.list({}, firstOne),
    store.bundles.get(trustDomain),
  ]);
  const [node] = nodes;
  const [entry] = entries;
  let owner = node ? trustDomainOf(node.id) : entry && trustDomainOf(entry.parentId);
  if (!owner && !ownBundle) owner = (await store.bundles.list(firstOne)).items[0]?.trustDomain;
  if (owner === undefined || owner === trustDomain) return;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `the database belongs to trust domain "${owner}", and this server is for "${trustDomain}": ` +
      "correct trust_domain, or name another database",
  );
}
