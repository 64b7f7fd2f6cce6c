/** The program that a process runs: its path and its SHA-256, both of one opened file. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readlink, stat } from "node:fs/promises";
import { SpireError } from "../../core/errors.ts";

export interface Program {
  /** Undefined when the file at its path is another one, or none. */
  readonly path?: string;
  /** Lowercase hex; undefined when hashing is off. */
  readonly sha256?: string;
}

export interface ProgramReader {
  /** @throws SpireError INTERNAL when the program can't be opened or is larger than the limit. */
  read(pid: number): Promise<Program>;
}

const mostRemembered = 256;
/** Programs open at a time: thousands of calls may come at once, and a process has only so many descriptors. */
const mostOpen = 32;
const chunkBytes = 256 * 1024;

export interface ProgramReaderOptions {
  /** Bytes; 0 = none, below 0 = no hash is made. */
  readonly workloadSizeLimit: number;
  /** Asked at each read; unset = always. */
  readonly hashWanted?: (() => boolean) | undefined;
}

export function createProgramReader(procPath: string, options: ProgramReaderOptions): ProgramReader {
  const { workloadSizeLimit: sizeLimit, hashWanted = () => true } = options;
  const digests = new Map<string, Promise<string>>();

  /**
   * A program that runs can't be written to, so a digest holds for the inode and its times. The change time
   * can't be set by a user.
   */
  async function digestOf(file: FileHandle): Promise<string> {
    const stat = await file.stat({ bigint: true });
    if (sizeLimit > 0 && stat.size > BigInt(sizeLimit)) {
      throw new SpireError("INTERNAL", `workload is larger than the limit of ${sizeLimit} bytes`);
    }
    const key = [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(":");
    const known = digests.get(key);
    if (known) return known;
    const digest = hash(file);
    remember(key, digest);
    return digest;
  }

  function remember(key: string, digest: Promise<string>): void {
    const oldest = digests.keys().next();
    if (digests.size >= mostRemembered && !oldest.done) digests.delete(oldest.value);
    digests.set(key, digest);
    digest.catch(() => digests.delete(key));
  }

  async function readNow(pid: number): Promise<Program> {
    const link = `${procPath}/${pid}/exe`;
    let file: FileHandle | undefined;
    try {
      file = await open(link, constants.O_RDONLY);
      const path = await readlink(`/proc/self/fd/${file.fd}`);
      const seen = (await isAt(path, file)) || (await isAt(`${procPath}/1/root${path}`, file));
      return {
        ...(seen && { path }),
        ...(sizeLimit >= 0 && hashWanted() && { sha256: await digestOf(file) }),
      };
    } catch (caught) {
      if (caught instanceof SpireError) throw caught;
      throw new SpireError("INTERNAL", `program of process ${pid} can't be read`, { cause: caught });
    } finally {
      await file?.close();
    }
  }

  const limited = createLimit(mostOpen);
  return { read: (pid) => limited(() => readNow(pid)) };
}

/**
 * Whether the path leads to the opened file. The kernel tells a program's path as its own mount namespace has it, and
 * any user can make one in which a file of theirs lies at any path. So the path counts as this process sees it, or as
 * the first process of its PID namespace does: an agent in a container sees other files than its node.
 */
async function isAt(path: string, file: FileHandle): Promise<boolean> {
  try {
    const [own, other] = await Promise.all([file.stat({ bigint: true }), stat(path, { bigint: true })]);
    return own.dev === other.dev && own.ino === other.ino;
  } catch {
    return false;
  }
}

/** Runs at most `most` pieces of work at a time, in the order they came. */
function createLimit(most: number) {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (running === most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}

async function hash(file: FileHandle): Promise<string> {
  const digest = createHash("sha256");
  const buffer = Buffer.alloc(chunkBytes);
  let position = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, chunkBytes, position);
    if (bytesRead === 0) return digest.digest("hex");
    digest.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
