/**
 * The file that a backup is. It begins with two lines of text: the form's name and version, and the manifest. Then
 * come the database, the key file if it is in it, and a line with the SHA-256 of all before. So no byte can change,
 * be missing or be added without notice. It is read and written in pieces.
 */
import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { SpireError } from "../../core/errors.ts";
import { reasonOf } from "../../files/failure.ts";
import { type BackupManifest, formatManifest, parseManifest } from "./manifest.ts";

const formName = "SPIRE-BACKUP";
const formVersion = 1;
const firstLine = `${formName} ${formVersion}\n`;
/** Two lines of text are never longer. */
const headBytes = 65_536;
const chunkBytes = 1 << 20;
const closing = (hash: Hash): string => `sha256 ${hash.digest("hex")}\n`;
const closingBytes = closing(createHash("sha256")).length;

/** What a manifest says, without what follows from the parts. */
export type BackupFacts = Omit<BackupManifest, "database" | "keys">;

/**
 * Writes a backup to a file that must not be there (0600); on disk when it resolves.
 * @param database its path. @param keys the content of the key file.
 */
export async function writeArchive(
  path: string,
  facts: BackupFacts,
  database: string,
  keys: Uint8Array | undefined,
): Promise<BackupManifest> {
  const manifest: BackupManifest = {
    ...facts,
    database: await measure(database),
    ...(keys
      ? { keys: { bytes: keys.length, sha256: createHash("sha256").update(keys).digest("hex") } }
      : {}),
  };
  const whole = createHash("sha256");
  const file = await open(path, "wx", 0o600);
  try {
    await file.chmod(0o600);
    const put = async (bytes: Uint8Array) => {
      whole.update(bytes);
      await file.writeFile(bytes);
    };
    await put(Buffer.from(`${firstLine}${formatManifest(manifest)}\n`));
    for await (const chunk of chunksOf(database)) await put(chunk);
    if (keys) await put(keys);
    await file.writeFile(closing(whole));
    await file.sync();
  } finally {
    await file.close();
  }
  return manifest;
}

/** A backup whose every byte is as it was written. It stays open: what was looked at is what is read. */
export interface Archive {
  readonly manifest: BackupManifest;
  /** Writes the database to a new file (0600), synced. @throws SpireError DATA_LOSS when it is not the one in the manifest. */
  extractDatabase(target: string): Promise<void>;
  /** The key file's content. @throws SpireError DATA_LOSS when it is not the one in the manifest. */
  readKeys(): Promise<Buffer | undefined>;
  close(): Promise<void>;
}

/**
 * Reads the whole file once.
 * @throws SpireError NOT_FOUND; INVALID_ARGUMENT for a file that is no backup; FAILED_PRECONDITION for the form of a
 * newer program; DATA_LOSS for a damaged one.
 */
export async function openArchive(path: string): Promise<Archive> {
  const file = await openToRead(path);
  try {
    return await readArchive(path, file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readArchive(path: string, file: FileHandle): Promise<Archive> {
  const { head, size } = await readHead(path, file);
  const text = head.toString("latin1");
  if (!text.startsWith(`${formName} `)) {
    throw new SpireError("INVALID_ARGUMENT", `${path} is not a backup made by "spire server backup"`);
  }
  const ends = [text.indexOf("\n"), text.indexOf("\n", text.indexOf("\n") + 1)] as const;
  const version = /^SPIRE-BACKUP (\d{1,9})\n/.exec(text)?.[1];
  if (version !== undefined && Number(version) > formVersion) {
    const reason = `it has form ${version}, written by a newer program; this one knows form ${formVersion}`;
    throw new SpireError("FAILED_PRECONDITION", `backup ${path} can't be read: ${reason}`);
  }
  const manifest = ends[1] < 0 ? undefined : parseManifest(head.toString("utf8", ends[0] + 1, ends[1]));
  if (version !== String(formVersion) || !manifest)
    throw damaged(path, "its first two lines are not as written");
  const start = ends[1] + 1;
  const keysStart = start + manifest.database.bytes;
  const end = keysStart + (manifest.keys?.bytes ?? 0);
  if (size !== end + closingBytes) {
    throw damaged(path, `it has ${size} bytes, and ${end + closingBytes} were written`);
  }
  await requireChecksum(path, file, end);
  return {
    manifest,
    async extractDatabase(target) {
      const sha256 = await extract(file, { start, end: keysStart }, target);
      if (sha256 !== manifest.database.sha256) throw notPutIn(path, "database");
    },
    async readKeys() {
      if (!manifest.keys) return undefined;
      const keys = Buffer.concat(await Array.fromAsync(chunksIn(file, { start: keysStart, end })));
      const sha256 = createHash("sha256").update(keys).digest("hex");
      if (sha256 !== manifest.keys.sha256) throw notPutIn(path, "key file");
      return keys;
    },
    close: () => file.close(),
  };
}

const notPutIn = (path: string, what: string): SpireError =>
  damaged(path, `the ${what} in it is not the one that was put in`);

const damaged = (path: string, what: string): SpireError =>
  new SpireError("DATA_LOSS", `backup ${path} is damaged: ${what}; use another one`);

async function openToRead(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

const unreadable = (path: string, cause: unknown): SpireError =>
  new SpireError("NOT_FOUND", `backup ${path} can't be read: ${reasonOf(cause)}`, { cause });

async function readHead(path: string, file: FileHandle): Promise<{ head: Buffer; size: number }> {
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    return { head: buffer.subarray(0, bytesRead), size };
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

async function requireChecksum(path: string, file: FileHandle, end: number): Promise<void> {
  const whole = createHash("sha256");
  for await (const chunk of chunksIn(file, { start: 0, end })) whole.update(chunk);
  const last = Buffer.concat(await Array.fromAsync(chunksIn(file, { start: end, end: end + closingBytes })));
  if (last.toString("latin1") !== closing(whole)) throw damaged(path, "its checksum differs");
}

/** @returns the checksum of what was written. */
async function extract(from: FileHandle, span: Span, target: string): Promise<string> {
  const hash = createHash("sha256");
  const file = await open(target, "wx", 0o600);
  try {
    await file.chmod(0o600);
    for await (const chunk of chunksIn(from, span)) {
      hash.update(chunk);
      await file.writeFile(chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return hash.digest("hex");
}

async function measure(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of chunksOf(path)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** From `start` up to, not including, `end`. */
interface Span {
  readonly start: number;
  readonly end: number;
}

async function* chunksOf(path: string): AsyncIterable<Buffer> {
  const file = await open(path, "r");
  try {
    yield* chunksIn(file, { start: 0, end: Number.POSITIVE_INFINITY });
  } finally {
    await file.close();
  }
}

/** The bytes of a file in order; each chunk holds until the next is asked for. */
async function* chunksIn(file: FileHandle, span: Span): AsyncIterable<Buffer> {
  let at = span.start;
  while (at < span.end) {
    const chunk = await readChunk(file, at, Math.min(chunkBytes, span.end - at));
    if (chunk.length === 0) return;
    at += chunk.length;
    yield chunk;
  }
}

async function readChunk(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}
