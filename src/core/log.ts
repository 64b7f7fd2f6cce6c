/** What a logger is. Formats and destinations live in telemetry/; core itself never logs. */

export type LogLevel = "panic" | "fatal" | "error" | "warning" | "info" | "debug" | "trace";

/** Field names follow SPIRE's (snake_case). Values are printed as they are: never pass a secret. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to each of its lines. */
  with(fields: LogFields): Logger;
}

export const nullLogger: Logger = {
  error() {},
  warn() {},
  info() {},
  debug() {},
  with: () => nullLogger,
};
