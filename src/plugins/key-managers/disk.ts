/** Keys in one JSON file, in the shape that SPIRE's `disk` key manager writes. */
import { mkdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { SpireError } from "../../core/errors.ts";
import { exportPkcs8, generateKey, importPrivateKey, type KeyType, type LocalKey } from "../../core/keys.ts";
import { replaceFile } from "../../files/replace-file.ts";
import type { LocalKeyManager, ManagedKey } from "./index.ts";

type StoredKey = ManagedKey & LocalKey;
type StoredKeys = ReadonlyMap<string, StoredKey>;

export interface DiskKeyManagerOptions {
  /** The file, usually `keys.json`; it and its folder (0700) are made when the first key is. */
  readonly path: string;
}

/**
 * The file is read at first use. Keys that are asked for at the same time are written together; each write goes
 * to a temporary file (0600) that is synced and renamed, so that the file is always a whole one.
 *
 * @throws (from its methods) SpireError FAILED_PRECONDITION for a file that is damaged or can't be read.
 */
export function createDiskKeyManager({ path }: DiskKeyManagerOptions): LocalKeyManager {
  let loading: Promise<void> | undefined;
  let keys: StoredKeys = new Map();
  let staged = new Map<string, StoredKey>();
  let beingMade = 0;
  let writes: Promise<void> = Promise.resolve();
  let unsaved: PromiseWithResolvers<void> | undefined;

  const load = (): Promise<void> => {
    loading ??= readKeys(path).then(
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

async function readKeys(path: string): Promise<StoredKeys> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (isMissing(cause)) return new Map();
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new SpireError("FAILED_PRECONDITION", `key file "${path}" can't be read: ${reason}`, { cause });
  }
  const keys = new Map<string, StoredKey>();
  for (const [id, encoded] of Object.entries(parseFile(path, text)))
    keys.set(id, parseKey(path, id, encoded));
  return keys;
}

const damaged = (path: string, what: string): SpireError =>
  new SpireError("FAILED_PRECONDITION", `key file "${path}" is damaged: ${what}; restore it from a backup`);

/** The `keys` object of the file. Causes are left out of the errors: parsers quote their input, which is secret. */
function parseFile(path: string, text: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw damaged(path, "it is not complete JSON");
  }
  const keys = isObject(content) ? content["keys"] : undefined;
  if (!isObject(keys)) throw damaged(path, 'it has no "keys" object');
  return keys;
}

function parseKey(path: string, id: string, encoded: unknown): StoredKey {
  if (typeof encoded !== "string" || encoded === "") throw damaged(path, `key "${id}" is not a text`);
  try {
    return { ...importPrivateKey(Buffer.from(encoded, "base64")), id };
  } catch {
    throw damaged(path, `key "${id}" is not a private key in PKCS #8 form`);
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
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new SpireError("FAILED_PRECONDITION", `key file "${path}" can't be written: ${reason}`, { cause });
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isMissing = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOENT";
