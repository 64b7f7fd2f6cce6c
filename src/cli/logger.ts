/** `spire server logger …`: the log level of the running server. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import { LoggerService } from "../rpc/gen/spire/api/server/logger/v1/logger.ts";
import { type Logger, LogLevel } from "../rpc/gen/spire/api/types/logger.ts";
import { command, type Invocation } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";
import { print, type Reply, reply } from "./print.ts";

/** Names as logrus prints them. */
const levels: Readonly<Record<string, LogLevel>> = {
  panic: LogLevel.PANIC,
  fatal: LogLevel.FATAL,
  error: LogLevel.ERROR,
  warning: LogLevel.WARN,
  info: LogLevel.INFO,
  debug: LogLevel.DEBUG,
  trace: LogLevel.TRACE,
};

export const loggerGet = command({
  name: "logger get",
  summary: "Shows the log level",
  example: "logger get",
  flags: serverFlags,
  run: (invocation) =>
    showing(invocation, "error fetching logger", async (channel) => {
      const logger = await channel.client(LoggerService).getLogger({});
      return { logger, reply: reply(LoggerService.getLogger, logger) };
    }),
});

export const loggerSet = command({
  name: "logger set",
  summary: "Sets the log level until the server ends",
  example: "logger set -level debug",
  flags: {
    ...serverFlags,
    level: stringFlag("The new log level: panic, fatal, error, warn, info, debug or trace", "", [
      "panic",
      "fatal",
      "error",
      "warn",
      "info",
      "debug",
      "trace",
    ]),
  },
  run: async (invocation) => {
    const newLevel = parseLevel(invocation.flags.level);
    return showing(invocation, "failed to set log level", async (channel) => {
      const logger = await channel.client(LoggerService).setLogLevel({ newLevel });
      return { logger, reply: reply(LoggerService.setLogLevel, logger) };
    });
  },
});

export const loggerReset = command({
  name: "logger reset",
  summary: "Sets the log level back to what it was when the server started",
  example: "logger reset",
  flags: serverFlags,
  run: (invocation) =>
    showing(invocation, "failed to reset logger", async (channel) => {
      const logger = await channel.client(LoggerService).resetLogLevel({});
      return { logger, reply: reply(LoggerService.resetLogLevel, logger) };
    }),
});

interface Shown {
  readonly logger: Logger;
  readonly reply: Reply;
}

function showing(
  invocation: Invocation<typeof serverFlags>,
  failure: string,
  ask: (channel: Channel) => Promise<Shown>,
): Promise<number> {
  const { flags, terminal } = invocation;
  return withServer(invocation, async (channel) => {
    const { logger, reply } = await ask(channel).catch((error: unknown) => {
      throw SpireError.from(error).within(failure);
    });
    return print({
      output: flags.output,
      terminal,
      replies: [reply],
      pretty: () => terminal.out(formatLogger(logger)),
    });
  });
}

function parseLevel(text: string): LogLevel {
  if (text === "") throw invalidArgument("a value (-level) must be set");
  const name = text.toLowerCase() === "warn" ? "warning" : text.toLowerCase();
  const level = Object.hasOwn(levels, name) ? levels[name] : undefined;
  if (level === undefined) throw invalidArgument(`the value ${quote(text)} is not a valid setting`);
  return level;
}

const nameOf = (level: LogLevel): string =>
  Object.keys(levels).find((name) => levels[name] === level) ?? `unknown (${level})`;

const formatLogger = ({ currentLevel, launchLevel }: Logger): string =>
  `Logger Level : ${nameOf(currentLevel)}\nLaunch Level : ${nameOf(launchLevel)}\n\n`;
