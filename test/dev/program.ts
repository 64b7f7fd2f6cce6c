/** The program as a child process: its lines as they come, its end, and what it leaves behind. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..", "..");

/** `$SPIRE_BIN`, else the sources. */
export const program: readonly string[] = process.env["SPIRE_BIN"]
  ? [process.env["SPIRE_BIN"]]
  : [process.execPath, join(root, "src", "main.ts")];

/** What `dev --output json` says. */
export interface DevReady {
  readonly version: string;
  readonly pid: number;
  readonly trust_domain: string;
  readonly workload_api_socket: string;
  readonly server_socket: string;
  readonly server_address: string;
  readonly agent_id: string;
  readonly bundle_path: string;
  readonly ca_sha256: string;
  readonly entries: readonly { id: string; spiffe_id: string; parent_id: string; selectors: string[] }[];
  readonly env: Readonly<Record<string, string>>;
  readonly startup_ms: number;
}

/** The lines of a stream, each to be waited for. */
export interface Lines {
  /** The first line not yet taken that fits; those before it are dropped. @throws Error when the stream ends first. */
  next(fits?: (line: string) => boolean): Promise<string>;
  /** Everything up to the end, taken or not. Resolves when the last process that holds the stream has ended. */
  all(): Promise<string>;
}

export interface Running {
  readonly pid: number;
  readonly out: Lines;
  readonly err: Lines;
  kill(signal: NodeJS.Signals): void;
  /** Exit code, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** A home for one test: a runtime directory, a working directory, and an end for whatever was started. */
export interface Sandbox {
  readonly directory: string;
  readonly runtimeDirectory: string;
  start(argv: readonly string[], env?: Readonly<Record<string, string>>): Running;
  /** The program with these arguments. */
  spire(...args: string[]): Running;
  /** `dev --output json` with these arguments, once it is ready. */
  dev(...args: string[]): Promise<{ running: Running; ready: DevReady }>;
  close(): Promise<void>;
}

export function createSandbox(): Sandbox {
  const directory = mkdtempSync(join(tmpdir(), "spire-e2e-"));
  const runtimeDirectory = mkdtempSync(join(directory, "run-"));
  const started: Running[] = [];
  const start: Sandbox["start"] = (argv, env = {}) => {
    const child = Bun.spawn([...argv], {
      cwd: directory,
      env: { ...process.env, XDG_RUNTIME_DIR: runtimeDirectory, SHELL: "/bin/sh", ...env },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const running = {
      pid: child.pid,
      out: linesOf(child.stdout),
      err: linesOf(child.stderr),
      kill: (signal: NodeJS.Signals) => child.kill(signal),
      ended: child.exited.then(() => child.signalCode ?? child.exitCode ?? -1),
    };
    started.push(running);
    return running;
  };
  return {
    directory,
    runtimeDirectory,
    start,
    spire: (...args) => start([...program, ...args]),
    async dev(...args) {
      const running = start([...program, "dev", "--output", "json", ...args]);
      try {
        return { running, ready: JSON.parse(await running.out.next()) };
      } catch (error) {
        throw new Error(`dev did not get ready: ${await running.err.all()}`, { cause: error });
      }
    },
    async close() {
      for (const { kill } of started) kill("SIGKILL");
      await Promise.all(started.map(({ ended }) => ended));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function linesOf(stream: ReadableStream<Uint8Array>): Lines {
  const lines: string[] = [];
  let text = "";
  let taken = 0;
  let isOver = false;
  let wake = Promise.withResolvers<void>();
  const pump = async () => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      text += decoder.decode(chunk, { stream: true });
      lines.splice(0, lines.length, ...text.split("\n").slice(0, -1));
      wake.resolve();
      wake = Promise.withResolvers();
    }
    isOver = true;
    wake.resolve();
  };
  const pumped = pump();
  return {
    async next(fits = () => true) {
      for (;;) {
        const found = lines.findIndex((line, index) => index >= taken && fits(line));
        if (found >= 0) {
          taken = found + 1;
          return lines[found] ?? "";
        }
        if (isOver) throw new Error(`the stream ended; it was: ${text}`);
        await wake.promise;
      }
    },
    async all() {
      await pumped;
      return text;
    },
  };
}

/** Runs to its end. */
export async function finish(running: Running): Promise<{ code: number | string; out: string; err: string }> {
  const [code, out, err] = await Promise.all([running.ended, running.out.all(), running.err.all()]);
  return { code, out, err };
}
