/** Log lines: SPIRE's text and JSON, and a short form for people; the level can change while the program runs. */
import { type ConsolaReporter, createConsola, type LogObject } from "consola/core";
import { invalidArgument } from "../core/errors.ts";
import type { LogFields, Logger, LogLevel } from "../core/log.ts";
import { cut, escapeControls, formatField, plainFields } from "./log-fields.ts";

export type LogFormat = "text" | "json" | "pretty";

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Gets whole lines, with their end. */
  readonly write: (line: string) => void;
  /** For the pretty form only. */
  readonly colors?: boolean;
}

export interface Log {
  readonly logger: Logger;
  level(): LogLevel;
  /** Holds for lines from now on, also of loggers made before. */
  setLevel(level: LogLevel): void;
}

/** SPIRE's levels as consola counts them: what is above the level is not printed. */
const consolaLevels: Readonly<Record<LogLevel, number>> = {
  panic: -2,
  fatal: -1,
  error: 0,
  warning: 1,
  info: 3,
  debug: 4,
  trace: 5,
};

/** In any case; `warn` is taken for `warning`. @throws SpireError INVALID_ARGUMENT in logrus' words. */
export function parseLogLevel(text: string): LogLevel {
  const lower = text.toLowerCase();
  const name = lower === "warn" ? "warning" : lower;
  const level = Object.keys(consolaLevels).find((known): known is LogLevel => known === name);
  if (level) return level;
  throw invalidArgument(`not a valid logrus Level: ${JSON.stringify(text)}`);
}

export function createLog({ level, format, write, colors = false }: LogOptions): Log {
  let current = level;
  const consola = createConsola({
    level: consolaLevels[level],
    // consola would fold repeated lines into one; a log keeps all.
    throttle: 0,
    reporters: [reporter(formats[format], write, colors)],
  });
  const loggerWith = (own: LogFields): Logger => ({
    error: (message, fields) => consola.error(message, own, fields),
    warn: (message, fields) => consola.warn(message, own, fields),
    info: (message, fields) => consola.info(message, own, fields),
    debug: (message, fields) => consola.debug(message, own, fields),
    with: (fields) => loggerWith({ ...own, ...fields }),
  });
  return {
    logger: loggerWith({}),
    level: () => current,
    setLevel(next) {
      current = next;
      consola.level = consolaLevels[next];
    },
  };
}

interface Line {
  readonly date: Date;
  readonly level: string;
  readonly message: string;
  /** Sorted, without secrets. */
  readonly fields: readonly (readonly [string, unknown])[];
}

type Format = (line: Line, colors: boolean) => string;

function reporter(format: Format, write: (line: string) => void, colors: boolean): ConsolaReporter {
  return {
    log({ date, type, args }: LogObject) {
      const [message, own, more] = args;
      const level = type === "warn" ? "warning" : type;
      write(
        format(
          { date, level, message: cut(String(message)), fields: plainFields({ ...own, ...more }) },
          colors,
        ),
      );
    },
  };
}

/** RFC 3339 in whole seconds, as logrus' text has it. */
const seconds = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, "Z");

const keyValues = (fields: Line["fields"]): string =>
  fields.map(([name, value]) => ` ${name}=${formatField(value)}`).join("");

function formatText({ date, level, message, fields }: Line): string {
  return `time="${seconds(date)}" level=${level} msg=${formatField(message)}${keyValues(fields)}\n`;
}

function formatJson({ date, level, message, fields }: Line): string {
  const all = [...fields, ["level", level], ["msg", message], ["time", date.toISOString()]] as const;
  const sorted = [...all].sort(([a], [b]) => (a < b ? -1 : 1));
  return `${escapeControls(JSON.stringify(Object.fromEntries(sorted)))}\n`;
}

const colorCodes: Readonly<Record<string, number>> = { error: 31, warning: 33, info: 36, debug: 90 };

function formatPretty({ date, level, message, fields }: Line, colors: boolean): string {
  const paint = (text: string, code: number) => (colors ? `\u001B[${code}m${text}\u001B[0m` : text);
  const time = date.toTimeString().slice(0, 8);
  const label = paint(level.toUpperCase().padEnd(7), colorCodes[level] ?? 0);
  return `${paint(time, 90)} ${label} ${escapeControls(message)}${paint(keyValues(fields), 90)}\n`;
}

const formats: Readonly<Record<LogFormat, Format>> = {
  text: formatText,
  json: formatJson,
  pretty: formatPretty,
};
