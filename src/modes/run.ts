/** Runs a server or an agent as a process: opens its log, starts it, waits for its end, closes it. */
import { closeSync, existsSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { version } from "../../package.json";
import { systemClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger, LogLevel } from "../core/log.ts";
import { createLog, type Log, type LogFormat, parseLogLevel } from "../telemetry/logging.ts";
import { type AgentSettings, defaultAgentSettings, startAgent } from "./agent.ts";
import { defaultServerSettings, type ServerSettings, startServer } from "./server.ts";

interface LogSettings {
  /** As users write it: `debug`, `INFO`, `warn`. */
  readonly level: string;
  /** `text` or `json`, in any case. */
  readonly format: string;
  /** Appended to; empty = standard output. */
  readonly file: string;
}

type ServerRun = Pick<
  ServerSettings,
  "trustDomain" | "bindAddress" | "bindPort" | "socketPath" | "dataDir"
> & {
  readonly log: LogSettings;
};

/**
 * Runs a server with its keys and database in its data directory until `stop` resolves.
 * @returns the exit code. @throws SpireError when the log can't be opened.
 */
export async function serveServer(
  { log: logSettings, ...run }: ServerRun,
  stop: Promise<void>,
): Promise<number> {
  const log = openLog(logSettings);
  const settings: ServerSettings = {
    ...defaultServerSettings,
    ...run,
    version,
    keyManager: { type: "disk", keysPath: join(run.dataDir, "keys.json") },
    dataStore: { type: "sqlite", path: join(run.dataDir, "datastore.sqlite3") },
  };
  return supervise("Server", log, async () => {
    log.logger.info("Configured", {
      data_dir: run.dataDir,
      launch_log_level: log.level(),
      version: settings.version,
    });
    const server = await untilStarted(startServer(settings, { clock: systemClock, log: log.logger }), stop);
    if (!server) return;
    await stop;
    await server.close();
  });
}

type AgentRun = Pick<AgentSettings, "trustDomain" | "serverAddress" | "socketPath" | "bootstrap"> &
  Partial<Pick<AgentSettings, "dataDir" | "joinToken">> & { readonly log: LogSettings };

/**
 * Runs an agent until `stop` resolves or it can't go on. Its keys are kept in its data directory, if it has one.
 * @returns the exit code. @throws SpireError when the log can't be opened.
 */
export async function serveAgent(
  { log: logSettings, ...run }: AgentRun,
  stop: Promise<void>,
): Promise<number> {
  const log = openLog(logSettings);
  const settings: AgentSettings = {
    ...defaultAgentSettings,
    ...run,
    version,
    ...(run.dataDir !== undefined && { keyManager: { type: "disk", directory: run.dataDir } }),
  };
  makeSocketDirectory(run.socketPath, log.logger);
  return supervise("Agent", log, async () => {
    const agent = await untilStarted(startAgent(settings, { clock: systemClock, log: log.logger }), stop);
    if (!agent) return;
    const failure = await Promise.race([agent.stopped, stop.then(() => undefined)]);
    await agent.close();
    if (failure) throw failure;
  });
}

/** Workloads of all users have to reach the socket, so its directory is made before the umask closes it to them. */
function makeSocketDirectory(path: string, log: Logger): void {
  const directory = dirname(resolve(path));
  if (existsSync(directory)) return;
  log.info("Creating spire agent UDS directory", { dir: directory });
  mkdirSync(directory, { recursive: true, mode: 0o755 });
}

/** A file that a server or an agent makes is for its owner, and at most readable by its group. */
function tightenUmask(log: Logger): void {
  const umask = process.umask();
  if ((umask & 0o027) === 0o027) return;
  const octal = (mask: number) => mask.toString(8).padStart(4, "0");
  log.warn(`Current umask ${octal(umask)} is too permissive; setting umask ${octal(umask | 0o027)}`);
  process.umask(umask | 0o027);
}

async function supervise(who: string, log: ProcessLog, work: () => Promise<void>): Promise<number> {
  try {
    tightenUmask(log.logger);
    await work();
    log.logger.info(`${who} stopped gracefully`);
    return 0;
  } catch (error) {
    log.logger.error(`${who} crashed`, { error });
    return 1;
  } finally {
    log.close();
  }
}

/** What has started, or undefined when the end was asked for before: the process is about to exit. */
const untilStarted = <T>(starting: Promise<T>, stop: Promise<void>): Promise<T | undefined> =>
  Promise.race([starting, stop.then(() => undefined)]);

interface ProcessLog extends Log {
  close(): void;
}

function openLog({ level, format, file }: LogSettings): ProcessLog {
  const options = { level: readLevel(level), format: readFormat(format) };
  if (file === "") {
    return {
      ...createLog({ ...options, write: (line) => void process.stdout.write(line) }),
      close: () => {},
    };
  }
  const descriptor = openForAppend(file);
  return {
    ...createLog({ ...options, write: (line) => void writeSync(descriptor, line) }),
    close: () => closeSync(descriptor),
  };
}

function readLevel(text: string): LogLevel {
  try {
    return parseLogLevel(text);
  } catch (error) {
    throw SpireError.from(error).within("could not start logger");
  }
}

function readFormat(text: string): LogFormat {
  const format = text.toLowerCase();
  if (format === "text" || format === "json") return format;
  throw new SpireError(
    "INVALID_ARGUMENT",
    `could not start logger: unknown logger format: ${JSON.stringify(text)}`,
  );
}

/** Readable by the group, as SPIRE has it. */
function openForAppend(path: string): number {
  try {
    return openSync(path, "a", 0o640);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SpireError("FAILED_PRECONDITION", `could not start logger: ${reason}`, { cause: error });
  }
}
