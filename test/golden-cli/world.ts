/** The surroundings that the recorded runs had: a folder of their own, a server, an agent, and a terminal each. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { runProgram, type Terminal } from "../../src/cli/command.ts";
import { programNamed } from "../../src/cli/process.ts";
import { systemClock } from "../../src/core/clock.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { programs } from "../../src/main.ts";
import { defaultAgentSettings, type RunningAgent, startAgent } from "../../src/modes/agent.ts";
import { defaultServerSettings } from "../../src/modes/server/settings.ts";
import { type RunningServer, startServer } from "../../src/modes/server.ts";
import { createLog } from "../../src/telemetry/logging.ts";
import type { RecordedCase } from "./cases.ts";

const trustDomain = parseTrustDomain("example.org");
export const serverSocket = "sadm/api.sock";
export const agentSocket = "wl/agent.sock";
export const foreignDomain = parseTrustDomain("other.test");
export const foreignSocket = "fadm/api.sock";

/** Makes a temporary folder the working directory. @returns the way back. */
export async function enterFolder(): Promise<() => Promise<void>> {
  const before = process.cwd();
  const zone = process.env["TZ"];
  const folder = await mkdtemp(join(tmpdir(), "golden-cli-"));
  process.chdir(folder);
  process.env["TZ"] = "UTC";
  for (const name of ["mint", "wout", "sadm", "fadm", "wl"]) await mkdir(name, { mode: 0o700 });
  return async () => {
    process.chdir(before);
    if (zone === undefined) delete process.env["TZ"];
    else process.env["TZ"] = zone;
    await rm(folder, { recursive: true, force: true });
  };
}

const commonSettings = {
  ...defaultServerSettings,
  bindAddress: "127.0.0.1",
  bindPort: 0,
  keyManager: { type: "memory" },
  dataStore: { type: "sqlite", path: ":memory:" },
  rateLimit: { attestation: false, signing: false },
} as const;

/** Logs at level debug, as the recorded server did. */
export function startRecordedServer(): Promise<RunningServer> {
  const { logger: log, ...logLevel } = createLog({ level: "debug", format: "text", write: () => {} });
  const settings = { ...commonSettings, trustDomain, socketPath: serverSocket, dataDir: "sdata" };
  return startServer(settings, { clock: systemClock, log, logLevel });
}

/** The server of the other trust domain, with a bundle endpoint. */
export const startForeignServer = (): Promise<RunningServer> =>
  startServer(
    {
      ...commonSettings,
      trustDomain: foreignDomain,
      socketPath: foreignSocket,
      dataDir: "fdata",
      federation: { bundleEndpoint: { address: "127.0.0.1", port: 0 }, federatesWith: [] },
    },
    { clock: systemClock, log: nullLogger },
  );

/** Attests with the token and follows the server's changes at once. */
export async function startRecordedAgent(server: RunningServer, joinToken: string): Promise<RunningAgent> {
  const agent = await startAgent(
    {
      ...defaultAgentSettings,
      trustDomain,
      serverAddress: server.address,
      socketPath: agentSocket,
      joinToken,
      bootstrap: { type: "bundle", bundle: server.bundle() },
    },
    { clock: systemClock, log: nullLogger },
  );
  server.onChange(() => agent.nudge());
  return agent;
}

export interface Run {
  /** Null when the command still ran when it was stopped. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in this process; one that ran until it was stopped is stopped once `isDone` holds. */
export async function runRecorded(
  { command, argv, stdin = "", files = {}, exitCode }: RecordedCase,
  isDone: (run: Run) => boolean,
): Promise<Run> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(path), { recursive: true });
    await Bun.write(path, text);
  }
  const output = { stdout: "", stderr: "" };
  const stopped = Promise.withResolvers<void>();
  const add = (stream: keyof typeof output) => (text: string) => {
    output[stream] += text;
    if (exitCode === null && isDone({ exitCode, ...output })) stopped.resolve();
  };
  const terminal: Terminal = {
    out: add("stdout"),
    err: add("stderr"),
    readInput: async () => stdin,
    untilStopped: () => stopped.promise,
    // Never the socket of a server that this machine may run.
    env: { SPIRE_SERVER_PRIVATE_SOCKET: "none.sock" },
  };
  const code = await runProgram(programNamed(programs, command), argv, terminal);
  return { exitCode: exitCode === null ? null : code, ...output };
}
