/** Keys in one JSON file, in the shape that SPIRE's `disk` key manager writes. */
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { SpireError } from "../../core/errors.ts";
import { exportPkcs8, generateKey, importPrivateKey, type KeyType, type LocalKey } from "../../core/keys.ts";
import { reasonOf } from "../../files/failure.ts";
import { removeUnfinished, replaceFile } from "../../files/replace-file.ts";
import type { LocalKeyManager, ManagedKey } from "./index.ts";

type StoredKey = ManagedKey & LocalKey;
type StoredKeys = ReadonlyMap<string, StoredKey>;

export interface DiskKeyManagerOptions {
  /** The file, usually `keys.json`; it and its folder (0700) are made when the first key is. */
  readonly path: string;
  /** By what a damaged file can be restored, such as a command. */
  readonly restoredBy?: string;
}

/**
 * The file is read at first use. Keys that are asked for at the same time are written together; each write goes
 * to a temporary file (0600) that is synced and renamed, so that the file is always a whole one.
 *
 * @throws (from its methods) SpireError FAILED_PRECONDITION for a file that is damaged, can't be read, or is open
 * to everybody.
 */
export function createDiskKeyManager({ path, restoredBy }: DiskKeyManagerOptions): LocalKeyManager {
  let loading: Promise<void> | undefined;
  let keys: StoredKeys = new Map();
  let staged = new Map<string, StoredKey>();
  let beingMade = 0;
  let writes: Promise<void> = Promise.resolve();
  let unsaved: PromiseWithResolvers<void> | undefined;

  const load = (): Promise<void> => {
    loading ??= readKeys({ path, restoredBy }).then(
      (found) => {
        keys = found;
      },
      (error: unknown) => {
        loading = undefined;
        throw error;
      },
    );
    return loading;
  };

  async function writeStaged(): Promise<void> {
    const batch = staged;
    staged = new Map();
    const next = new Map([...keys, ...batch]);
    await writeKeys(path, next);
    keys = next;
  }

  /** Starts a write, unless keys are still being made: those go into the same one. */
  function flush(): void {
    if (!unsaved || beingMade > 0) return;
    const { resolve, reject } = unsaved;
    unsaved = undefined;
    const written = writes.then(writeStaged);
    written.then(resolve, reject);
    writes = written.catch(() => {});
  }

  /** Resolves once the key is on disk. */
  async function make(id: string, type: KeyType): Promise<StoredKey> {
    let saved: Promise<void>;
    let key: StoredKey;
    beingMade += 1;
    try {
      key = { ...(await generateKey(type)), id };
      staged.set(id, key);
      unsaved ??= Promise.withResolvers<void>();
      saved = unsaved.promise;
    } finally {
      beingMade -= 1;
      flush();
    }
    await saved;
    return key;
  }

  return {
    async generate(id, type) {
      await load();
      return make(id, type);
    },
    async get(id) {
      await load();
      return keys.get(id);
    },
    async list() {
      await load();
      return [...keys.values()];
    },
  };
}

/** What messages say of a key file. */
interface KeyFile {
  readonly path: string;
  readonly restoredBy: string | undefined;
}

async function readKeys(file: KeyFile): Promise<StoredKeys> {
  const { path } = file;
  removeUnfinished(path);
  let found: PrivateFile;
  try {
    found = await readWithRights(path);
  } catch (cause) {
    if (isMissing(cause)) return new Map();
    throw new SpireError("FAILED_PRECONDITION", `key file "${path}" can't be read: ${reasonOf(cause)}`, {
      cause,
    });
  }
  const keys = new Map<string, StoredKey>();
  for (const [id, encoded] of Object.entries(parseFile(file, found.text)))
    keys.set(id, parseKey(file, id, encoded));
  refuseExposed(path, found);
  return keys;
}

interface PrivateFile {
  readonly text: string;
  readonly mode: number;
}

async function readWithRights(path: string): Promise<PrivateFile> {
  const file = await open(path, "r");
  try {
    const { mode } = await file.stat();
    return { text: await file.readFile("utf8"), mode };
  } finally {
    await file.close();
  }
}

/** Keys that others may have seen sign nothing. A group is let pass: a container's volume gives its files to one. */
function refuseExposed(path: string, { mode }: PrivateFile): void {
  if ((mode & 0o007) === 0) return;
  throw new SpireError(
    "FAILED_PRECONDITION",
    `key file "${path}" has mode 0${(mode & 0o777).toString(8)}: everybody may know its keys; ` +
      'remove it, or run "chmod 600" on it if nobody can have seen it',
  );
}

function damaged({ path, restoredBy }: KeyFile, what: string): SpireError {
  const how = restoredBy === undefined ? "" : ` by "${restoredBy}"`;
  const remedy = `restore it${how}, or remove it to begin with new keys`;
  return new SpireError("FAILED_PRECONDITION", `key file "${path}" is damaged: ${what}; ${remedy}`);
}

/** The `keys` object of the file. Causes are left out of the errors: parsers quote their input, which is secret. */
function parseFile(file: KeyFile, text: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw damaged(file, "it is not complete JSON");
  }
  const keys = isObject(content) ? content["keys"] : undefined;
  if (!isObject(keys)) throw damaged(file, 'it has no "keys" object');
  return keys;
}

function parseKey(file: KeyFile, id: string, encoded: unknown): StoredKey {
  if (typeof encoded !== "string" || encoded === "") throw damaged(file, `key "${id}" is not a text`);
  try {
    return { ...importPrivateKey(Buffer.from(encoded, "base64")), id };
  } catch {
    throw damaged(file, `key "${id}" is not a private key in PKCS #8 form`);
  }
}

async function writeKeys(path: string, keys: StoredKeys): Promise<void> {
  const sorted = [...keys].sort(([a], [b]) => (a < b ? -1 : 1));
  const encoded = sorted.map(([id, key]) => [id, Buffer.from(exportPkcs8(key)).toString("base64")]);
  const text = JSON.stringify({ keys: Object.fromEntries(encoded) }, undefined, "\t");
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await replaceFile(path, text);
  } catch (cause) {
    throw new SpireError("FAILED_PRECONDITION", `key file "${path}" can't be written: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOENT";
