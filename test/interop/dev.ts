/** `spire dev` as a child process of the compiled binary, and what it says about itself. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";
import { temporaryFolder } from "./folders.ts";
import { type Child, startChild } from "./processes.ts";

export const binary = join(root, "dist", "spire");

/** The fields of `spire dev --output json` that tests use. */
export interface DevFacts {
  readonly trust_domain: string;
  readonly workload_api_socket: string;
  readonly server_socket: string;
  readonly server_address: string;
  readonly agent_id: string;
  readonly bundle_path: string;
  readonly ca_sha256: string;
  readonly env: Readonly<Record<string, string>>;
  readonly startup_ms: number;
}

export interface Dev extends AsyncDisposable {
  readonly facts: DevFacts;
  readonly process: Child;
}

/** An entry as in `entry create -data`. */
export interface EntryData {
  readonly spiffe_id: string;
  readonly selectors: readonly { readonly type: string; readonly value: string }[];
  /** Seconds. */
  readonly x509_svid_ttl?: number;
  readonly hint?: string;
}

const user = String(process.getuid?.() ?? 0);

/** A selector that grants an identity to every process of the user who runs the tests. */
export const sameUser = { type: "unix", value: `uid:${user}` };

/** A selector that grants an identity to the processes of one executable. */
export const executable = (path: string) => ({ type: "unix", value: `path:${path}` });

/** Starts `spire dev`; its files lie below `folder`. Its one line of output is DevFacts. */
export const runDev = (folder: string, ...options: string[]): Child => runDevOf([binary], folder, ...options);

/** The same for another program than the executable of this machine. */
export function runDevOf(program: readonly string[], folder: string, ...options: string[]): Child {
  const env = { XDG_RUNTIME_DIR: folder, TMPDIR: folder };
  return startChild([...program, "dev", "--output", "json", ...options], env);
}

/** Starts `spire dev` with entries of its own; resolves when it is ready. Its end removes its files. */
export async function startDev(entries: readonly EntryData[], ...options: string[]): Promise<Dev> {
  const folder = await temporaryFolder();
  const entryFile = join(folder.path, "entries.json");
  await writeFile(entryFile, JSON.stringify({ entries }));
  const child = runDev(folder.path, "-f", entryFile, ...options);
  const dispose = async () => {
    await child[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  };
  try {
    return { facts: (await child.next()) as DevFacts, process: child, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}
