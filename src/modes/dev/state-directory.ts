/** What a development instance keeps between runs, the marker that tells its directory from a real server's. */
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { SpireError } from "../../core/errors.ts";
import { isUnfinished, removeUnfinished, replaceFile } from "../../files/replace-file.ts";
import { createFileLocks } from "./file-lock.ts";
import { currentUid } from "./instances.ts";

/** In every state directory of a development instance; `spire server` refuses a directory that holds it. */
const markerFile = "dev.json";
const lockFile = "dev.lock";

/** Contents of the marker. */
export interface DevRecord {
  readonly trust_domain: string;
  /** The agent's ID; empty before the first attestation. */
  readonly agent_id: string;
  /** IDs of the entries that came from an entries file and follow it. */
  readonly file_entries: readonly string[];
}

export interface StateDirectory {
  readonly path: string;
  /** Whether it outlives the instance. */
  readonly persistent: boolean;
  /** From an earlier run. */
  readonly record: DevRecord | undefined;
  save(record: DevRecord): Promise<void>;
  release(): void;
}

/** State that lives in the instance's own directory and goes with it. */
export function openTemporaryState(path: string): StateDirectory {
  return {
    path,
    persistent: false,
    record: undefined,
    save: async (record) => writeFileSync(join(path, markerFile), formatRecord(record), { mode: 0o600 }),
    release() {},
  };
}

/**
 * Opens a directory that is empty, missing or an earlier instance's; makes it private.
 * @throws SpireError FAILED_PRECONDITION when it is another user's, in use, damaged or something else's.
 */
export function openPersistentState(wanted: string): StateDirectory {
  const path = resolve(wanted);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = statSync(path);
  if (found.uid !== currentUid()) throw refuse(path, `belongs to uid ${found.uid}, not to you`);
  const record = readDevRecord(path);
  if (!record && readdirSync(path).some((name) => name !== lockFile && !isUnfinished(name, markerFile))) {
    throw refuse(path, `is not empty and holds no ${markerFile}, so it is not a development instance's`);
  }
  if ((found.mode & 0o077) !== 0) chmodSync(path, 0o700);
  const lock = createFileLocks().take(join(path, lockFile));
  if (!lock) throw refuse(path, "is in use by another development instance");
  removeUnfinished(join(path, markerFile));
  return {
    path,
    persistent: true,
    // Read again: another instance may have written it before it let go of the lock.
    record: readDevRecord(path),
    save: (next) => replaceFile(join(path, markerFile), formatRecord(next)),
    release() {
      if (!readDevRecord(path)) unlinkSync(join(path, lockFile));
      lock.release();
    },
  };
}

const refuse = (path: string, why: string) =>
  new SpireError("FAILED_PRECONDITION", `state directory ${path} ${why}`);

const formatRecord = (record: DevRecord): string => `${JSON.stringify(record, undefined, 2)}\n`;

/** Undefined when there is no marker. @throws SpireError FAILED_PRECONDITION when it is damaged. */
function readDevRecord(directory: string): DevRecord | undefined {
  let text: string;
  try {
    text = readFileSync(join(directory, markerFile), "utf8");
  } catch {
    return undefined;
  }
  const record = parseJson(text);
  if (!isDevRecord(record)) throw refuse(directory, `holds a damaged ${markerFile}; remove the directory`);
  return record;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isDevRecord(value: unknown): value is DevRecord {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Partial<Record<keyof DevRecord, unknown>>;
  return (
    typeof record.trust_domain === "string" &&
    typeof record.agent_id === "string" &&
    Array.isArray(record.file_entries) &&
    record.file_entries.every((id) => typeof id === "string")
  );
}
