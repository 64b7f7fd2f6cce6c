/** spire.api.server.logger.v1.Logger: the log level, changed while the server runs. */
import { invalidArgument } from "../../core/errors.ts";
import type { LogLevel } from "../../core/log.ts";
import { LoggerService } from "../../rpc/gen/spire/api/server/logger/v1/logger.ts";
import { LogLevel as Level, type Logger } from "../../rpc/gen/spire/api/types/logger.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { Log } from "../../telemetry/logging.ts";

/** The level of the server's log. */
export type LogLevelControl = Pick<Log, "level" | "setLevel">;

const levels: Readonly<Record<LogLevel, Level>> = {
  panic: Level.PANIC,
  fatal: Level.FATAL,
  error: Level.ERROR,
  warning: Level.WARN,
  info: Level.INFO,
  debug: Level.DEBUG,
  trace: Level.TRACE,
};

/** The level that holds now is the one that a reset goes back to. */
export function createLoggerApi(control: LogLevelControl): BoundService {
  const launchLevel = control.level();
  const state = (): Logger => ({
    currentLevel: levels[control.level()],
    launchLevel: levels[launchLevel],
  });

  return bindService(LoggerService, {
    getLogger: async () => state(),
    async setLogLevel({ newLevel }, { log }) {
      const level = fromMessage(newLevel);
      control.setLevel(level);
      log.info("SetLogLevel Called", { new_log_level: level });
      return state();
    },
    async resetLogLevel(_, { log }) {
      control.setLevel(launchLevel);
      log.info("ResetLogLevel Called", { launch_log_level: launchLevel });
      return state();
    },
  });
}

function fromMessage(newLevel: Level): LogLevel {
  if (newLevel === Level.UNSPECIFIED) {
    throw invalidArgument("newLevel value cannot be LogLevel_UNSPECIFIED");
  }
  const level = Object.keys(levels).find((name): name is LogLevel => levels[name as LogLevel] === newLevel);
  if (level === undefined) throw invalidArgument("unsupported log level");
  return level;
}
