/** Runs a server or an agent as a process: opens its log, starts it, waits for its end, closes it. */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { version } from "../../package.json";
import type { AgentConfig } from "../config/agent.ts";
import type { LogSettings } from "../config/checks.ts";
import type { PluginFile } from "../config/plugin-files.ts";
import type { Loaded } from "../config/server.ts";
import type { ServerConfig } from "../config/server-config.ts";
import { systemClock } from "../core/clock.ts";
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Logger, LogLevel } from "../core/log.ts";
import { createLog, type Log, type LogFormat, parseLogLevel } from "../telemetry/logging.ts";
import { type AgentSettings, defaultAgentSettings, startAgent } from "./agent.ts";
import { backUpInChild } from "./backup/child.ts";
import { atEveryAddress } from "./every-address.ts";
import { logToStream, openLogFile } from "./log-file.ts";
import { createReconfiguration, needsRestart, type Reconfigure } from "./reconfigure.ts";
import { defaultServerSettings, type ServerSettings } from "./server/settings.ts";
import { startServer } from "./server.ts";
import { connectServiceManager } from "./systemd.ts";

/**
 * Runs a server until `stop` resolves.
 * @returns the exit code. @throws SpireError when the configuration asks for what isn't there, the log can't be
 *   opened, or a debugger is switched on.
 */
export async function serveServer(loaded: Loaded<ServerConfig>, stop: Promise<void>): Promise<number> {
  refuseDebugger(process.env);
  const { log: logSettings, ...config } = loaded.config;
  return supervise("Server", loaded, logSettings, async (log) => {
    const settings: ServerSettings = { ...defaultServerSettings, ...atEveryAddress(config), version };
    log.logger.info("Configured", {
      admin_ids: config.adminIds,
      data_dir: config.dataDir,
      launch_log_level: log.level(),
      version,
    });
    const deps = { clock: systemClock, log: log.logger, logLevel: log, backUp: backUpInChild };
    await managed(log.logger, loaded.pluginFiles, async (manager) => {
      const server = await untilStarted(startServer(settings, deps), stop);
      if (!server) return;
      manager.running(`Serving ${server.trustDomain} at ${server.address}`, server.reconfigure);
      await stop;
      manager.stopping();
      await server.close();
    });
  });
}

/**
 * Runs an agent until `stop` resolves or it can't go on.
 * @returns the exit code. @throws SpireError as above.
 */
export async function serveAgent(loaded: Loaded<AgentConfig>, stop: Promise<void>): Promise<number> {
  refuseDebugger(process.env);
  const { log: logSettings, ...config } = loaded.config;
  return supervise("Agent", loaded, logSettings, async ({ logger }) => {
    const settings: AgentSettings = { ...defaultAgentSettings, ...config, version };
    await managed(logger, loaded.pluginFiles, async (manager) => {
      const agent = await untilStarted(startAgent(settings, { clock: systemClock, log: logger }), stop);
      if (!agent) return;
      manager.running(`Serving ${settings.trustDomain} at ${agent.socketPath}`, async (plugin) => {
        throw needsRestart(plugin);
      });
      const failure = await Promise.race([agent.stopped, stop.then(() => undefined)]);
      manager.stopping();
      await agent.close();
      if (failure) throw failure;
    });
  });
}

interface Managed<Config> {
  /** From now on the service manager counts the program as started, and SIGUSR1 has plugins reconfigured. */
  running(status: string, reconfigure: Reconfigure<Config>): void;
  stopping(): void;
}

/** Work that a service manager is told about, and that SIGUSR1 reaches. */
async function managed<Config>(
  log: Logger,
  files: readonly PluginFile<Config>[],
  work: (manager: Managed<Config>) => Promise<void>,
): Promise<void> {
  const { env, pid } = process;
  const manager = await connectServiceManager({ env, pid, clock: systemClock, log });
  let reconfigure: (() => Promise<void>) | undefined;
  const stopListening = onSignal("SIGUSR1", () => {
    if (reconfigure) void manager.reloading(reconfigure);
  });
  try {
    await work({
      running(status, take) {
        reconfigure = createReconfiguration(files, take, log);
        manager.ready(status);
      },
      stopping() {
        reconfigure = undefined;
        manager.stopping();
      },
    });
  } finally {
    stopListening();
    await manager.close();
  }
}

/** @returns what ends the listening. */
function onSignal(signal: "SIGUSR1" | "SIGUSR2", act: () => void): () => void {
  process.on(signal, act);
  return () => void process.off(signal, act);
}

/** By what the runtime opens a debugger before anything of this program runs. */
const debuggers: Readonly<Record<string, RegExp>> = {
  BUN_INSPECT: /./,
  BUN_INSPECT_CONNECT_TO: /./,
  BUN_INSPECT_NOTIFY: /./,
  BUN_OPTIONS: /--inspect/,
};

/** @throws SpireError FAILED_PRECONDITION: whoever reaches a debugger can read every key of the process. */
function refuseDebugger(env: NodeJS.ProcessEnv): void {
  for (const [name, on] of Object.entries(debuggers)) {
    if (!on.test(env[name] ?? "")) continue;
    throw new SpireError(
      "FAILED_PRECONDITION",
      `${name} is set: it opens a debugger, by which others could read the keys of this process; unset it`,
    );
  }
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

/** Nothing but the log is written before the whole configuration holds. */
async function supervise(
  who: "Server" | "Agent",
  loaded: Loaded<ServerConfig | AgentConfig>,
  settings: LogSettings,
  work: (log: ProcessLog) => Promise<void>,
): Promise<number> {
  const [problem] = loaded.pluginProblems;
  if (!problem && loaded.refusedKeys.length === 0) refuseMissing(loaded);
  const log = openLog(settings);
  const stopListening = [
    onSignal("SIGUSR2", () => reopenLog(log)),
    // By itself, the signal ends a process; it may come before there is anything to reconfigure.
    onSignal("SIGUSR1", () => {}),
  ];
  try {
    refuseUnknown(loaded, log.logger);
    for (const { level, message, fields } of loaded.notices ?? []) log.logger[level](message, fields);
    for (const warning of loaded.warnings) log.logger.warn(warning);
    if (who === "Agent" && !problem) makeSocketDirectory(loaded.config.socketPath, log.logger);
    return await runLogged(who, log, async () => {
      tightenUmask(log.logger);
      if (problem) throw invalidArgument(problem.failure);
      await work(log);
    });
  } finally {
    for (const stop of stopListening) stop();
    log.close();
  }
}

function reopenLog(log: ProcessLog): void {
  try {
    log.reopen();
  } catch (error) {
    log.logger.error("failed to rotate log after signal", { error });
  }
}

async function runLogged(who: string, { logger }: ProcessLog, work: () => Promise<void>): Promise<number> {
  try {
    await work();
    logger.info(`${who} stopped gracefully`);
    return 0;
  } catch (error) {
    logger.error(`${who} crashed`, { error });
    return 1;
  }
}

/** @throws SpireError UNIMPLEMENTED with a line for each. */
function refuseMissing({ notYet }: Loaded<unknown>): void {
  if (notYet.length === 0) return;
  const lines = notYet.map((sentence) => `  ${sentence}`).join("\n");
  throw new SpireError("UNIMPLEMENTED", `the configuration asks for what is not supported yet:\n${lines}`);
}

/** @throws SpireError INVALID_ARGUMENT once the log has them by section, as SPIRE's has. */
function refuseUnknown({ refusedKeys }: Loaded<unknown>, logger: Logger): void {
  if (refusedKeys.length === 0) return;
  for (const { section, keys } of refusedKeys) {
    logger.error("Unknown configuration detected", { keys: keys.join(","), section });
  }
  const sentences = refusedKeys.flatMap((refused) => refused.sentences).join("; ");
  throw invalidArgument(`unknown configuration detected (${sentences})`);
}

/** What has started, or undefined when the end was asked for before: the process is about to exit. */
const untilStarted = <T>(starting: Promise<T>, stop: Promise<void>): Promise<T | undefined> =>
  Promise.race([starting, stop.then(() => undefined)]);

interface ProcessLog extends Log {
  /** Goes on in a new file where somebody has moved the old one away. @throws SpireError; then the old one stays. */
  reopen(): void;
  close(): void;
}

function openLog({ level, format, file }: LogSettings): ProcessLog {
  const options = { level: readLevel(level), format: readFormat(format) };
  const complain = (reason: string) => void process.stderr.write(`${reason}\n`);
  if (file === "") {
    const { write, close } = logToStream(process.stdout, complain);
    return { ...createLog({ ...options, write }), reopen: () => {}, close };
  }
  const { write, reopen, close } = openLogFile(file, complain);
  return { ...createLog({ ...options, write }), reopen, close };
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
