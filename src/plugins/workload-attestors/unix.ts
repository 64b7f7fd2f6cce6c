/** Workload attestation by what the kernel says of a process: its user, groups and, if asked for, its program. */
import { closeSync, openSync, readSync } from "node:fs";
import { SpireError } from "../../core/errors.ts";
import type { Selector } from "../../core/selector.ts";
import type { WorkloadAttestor, WorkloadProcess } from "./index.ts";
import { createNameTable, type NameTable } from "./unix-names.ts";
import { createProgramReader, type ProgramReader } from "./unix-program.ts";

const name = "unix";

export interface UnixAttestorOptions {
  /** Adds `path` and, within the size limit, `sha256`. */
  readonly discoverWorkloadPath: boolean;
  /** Bytes; 0 = any size is hashed, below 0 = none is hashed. A larger program fails the attestation. */
  readonly workloadSizeLimit: number;
  /** Asked at each attestation whether anybody cares for `sha256`; unset = always. */
  readonly hashWanted?: (() => boolean) | undefined;
  /** Where the kernel shows processes; `/proc` unless said. */
  readonly procPath?: string;
  readonly passwdPath?: string;
  readonly groupPath?: string;
}

/** What /proc/PID/status says of a process: effective IDs and the supplementary groups, decimal. */
interface Credentials {
  readonly uid: string;
  readonly gid: string;
  readonly groups: readonly string[];
}

/**
 * Selectors `uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, and with discovery `path`
 * and `sha256`, in this order. Names that the system's tables don't know are left out, and so is the path of a
 * program that the process sees where nobody else does: see `ProgramReader`.
 *
 * The caller has to check, after an attestation, that the process is still the one that connected.
 *
 * @returns an attestor whose `attest` throws SpireError INTERNAL when the process is gone, changed its effective
 * IDs since it connected, or has a program that can't be read or is too large.
 */
export function createUnixAttestor(options: UnixAttestorOptions): WorkloadAttestor {
  const procPath = options.procPath ?? "/proc";
  const users = createNameTable(options.passwdPath ?? "/etc/passwd");
  const groups = createNameTable(options.groupPath ?? "/etc/group");
  const status = createStatusReader(procPath);
  const selectors = createSelectorMemory(users, groups);
  const program = options.discoverWorkloadPath ? createProgramReader(procPath, options) : undefined;
  return {
    name,
    async attest(process) {
      const own = selectors(checkedCredentials(status(process.pid), process));
      return program ? [...own, ...(await programSelectors(program, process.pid))] : own;
    },
  };
}

const selector = (key: string, value: string): Selector => ({ type: name, value: `${key}:${value}` });

async function programSelectors(program: ProgramReader, pid: number): Promise<Selector[]> {
  const { path, sha256 } = await program.read(pid);
  return [
    ...(path === undefined ? [] : [selector("path", path)]),
    ...(sha256 === undefined ? [] : [selector("sha256", sha256)]),
  ];
}

/** The IDs that the kernel noted when the socket connected have to be those that the process has now. */
function checkedCredentials(text: string, process: WorkloadProcess): Credentials {
  const credentials = parseStatus(text);
  if (credentials.uid !== String(process.uid)) {
    throw new SpireError("INTERNAL", `process ${process.pid} changed its user after it had connected`);
  }
  if (credentials.gid !== String(process.gid)) {
    throw new SpireError("INTERNAL", `process ${process.pid} changed its group after it had connected`);
  }
  return credentials;
}

/** proc(5): `Uid:` and `Gid:` hold real, effective, saved and file system IDs. */
function parseStatus(text: string): Credentials {
  const uid = field(text, "Uid")[1];
  const gid = field(text, "Gid")[1];
  if (uid === undefined || gid === undefined) {
    throw new SpireError("INTERNAL", "process status has no user and group");
  }
  return { uid, gid, groups: field(text, "Groups") };
}

function field(text: string, key: string): string[] {
  const start = text.indexOf(`\n${key}:`);
  if (start < 0) return [];
  const end = text.indexOf("\n", start + 1);
  const value = text.slice(start + key.length + 2, end < 0 ? undefined : end).trim();
  return value === "" ? [] : value.split(/\s+/);
}

/**
 * Reads /proc/PID/status. Synchronous on purpose: the kernel makes the text from memory, so the call never
 * waits for a device and is ten times cheaper than a trip through the thread pool.
 */
function createStatusReader(procPath: string): (pid: number) => string {
  let buffer = Buffer.alloc(8192);
  const readAll = (descriptor: number): string => {
    let length = 0;
    for (;;) {
      const count = readSync(descriptor, buffer, length, buffer.length - length, null);
      if (count === 0) return buffer.toString("latin1", 0, length);
      length += count;
      if (length === buffer.length) buffer = Buffer.concat([buffer], buffer.length * 2);
    }
  };
  return (pid) => {
    try {
      const descriptor = openSync(`${procPath}/${pid}/status`, "r");
      try {
        return readAll(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (cause) {
      throw new SpireError("INTERNAL", `status of process ${pid} can't be read`, { cause });
    }
  };
}

const mostRemembered = 1_000;

/** Makes the selectors of credentials; equal credentials get the very same array while the tables stay. */
function createSelectorMemory(
  users: NameTable,
  groups: NameTable,
): (credentials: Credentials) => readonly Selector[] {
  const remembered = new Map<string, readonly Selector[]>();
  let version = "";
  return (credentials) => {
    const current = `${users.version()} ${groups.version()}`;
    if (current !== version || remembered.size >= mostRemembered) remembered.clear();
    version = current;
    const key = `${credentials.uid} ${credentials.gid} ${credentials.groups.join(" ")}`;
    const known = remembered.get(key);
    if (known) return known;
    const made = credentialSelectors(credentials, users, groups);
    remembered.set(key, made);
    return made;
  };
}

function credentialSelectors(
  { uid, gid, groups: supplementary }: Credentials,
  users: NameTable,
  groups: NameTable,
): readonly Selector[] {
  const named = (idKey: string, nameKey: string, id: string, table: NameTable): Selector[] => {
    const found = table.nameOf(id);
    return found === undefined ? [selector(idKey, id)] : [selector(idKey, id), selector(nameKey, found)];
  };
  return [
    ...named("uid", "user", uid, users),
    ...named("gid", "group", gid, groups),
    ...supplementary.flatMap((id) => named("supplementary_gid", "supplementary_group", id, groups)),
  ];
}
