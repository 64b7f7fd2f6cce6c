/** Values that server and agent check alike, in SPIRE's words: durations, IDs, key types, ports, logs. */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { SpireError } from "../core/errors.ts";
import { parseGoDuration, quote, systemErrorText } from "../core/go-text.ts";
import type { KeyType } from "../core/keys.ts";
import { parseTrustDomainOrId, type TrustDomain } from "../core/spiffe-id.ts";
import type { Origin } from "./origin.ts";

export interface LogSettings {
  readonly level: string;
  readonly format: string;
  /** Empty = standard output. */
  readonly file: string;
}

interface RawLog {
  readonly log_level?: string | undefined;
  readonly log_format?: string | undefined;
  readonly log_file?: string | undefined;
}

export interface Checks {
  /** @throws SpireError `<option> must be configured`. */
  required(value: string | undefined, path: string): string;
  trustDomain(value: string | undefined, path: string): TrustDomain;
  /** @param failure begins the message for a text that is no duration, unless empty. @returns undefined for none, and for 0. */
  durationMs(value: string | undefined, path: string, failure: string): number | undefined;
  /** Of an option without effect: below zero does no harm. @throws SpireError for a text that is no duration. */
  anyDuration(value: string, path: string, failure: string): void;
  /** As above, in whole seconds. */
  seconds(value: string | undefined, path: string, failure: string): number | undefined;
  keyType(value: string, path: string, prefix: string, known: readonly KeyType[]): KeyType;
  port(value: number, path: string, lowest: 0 | 1): number;
  log(raw: RawLog, section: string): LogSettings;
}

const levels = ["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"];
const formats = ["text", "json"];

export function createChecks(origin: Origin): Checks {
  const { problem } = origin;
  const required = (value: string | undefined, path: string): string => {
    if (value === undefined || value === "") throw problem(`${nameOf(path)} must be configured`, path);
    return value;
  };
  const durationMs = (value: string | undefined, path: string, failure: string): number | undefined => {
    if (value === undefined || value === "") return undefined;
    const milliseconds = parseDuration(value, path, failure);
    if (milliseconds < 0) throw problem(`${nameOf(path)} must not be negative`, path);
    return milliseconds === 0 ? undefined : milliseconds;
  };
  const parseDuration = (value: string, path: string, failure: string): number => {
    try {
      return parseGoDuration(value);
    } catch (error) {
      const { message } = SpireError.from(error);
      throw problem(
        failure === "" ? message : `${failure}: ${message}`,
        path,
        'write a duration such as "1h30m"',
      );
    }
  };
  return {
    required,
    trustDomain(value, path) {
      const text = required(value, path);
      try {
        return parseTrustDomainOrId(text);
      } catch (error) {
        const { message } = SpireError.from(error);
        throw problem(`could not parse trust_domain ${quote(text)}: ${message}`, path);
      }
    },
    durationMs,
    anyDuration: (value, path, failure) => void parseDuration(value, path, failure),
    seconds(value, path, failure) {
      const milliseconds = durationMs(value, path, failure);
      if (milliseconds === undefined) return undefined;
      if (milliseconds < 1_000) throw problem(`${nameOf(path)} must be at least 1s`, path);
      return Math.floor(milliseconds / 1_000);
    },
    keyType(value, path, prefix, known) {
      const type = known.find((candidate) => candidate === value.toLowerCase());
      if (type) return type;
      throw problem(
        `${prefix}key type ${quote(value)} is unknown; must be one of [${known.join(", ")}]`,
        path,
      );
    },
    port(value, path, lowest) {
      if (value >= lowest && value <= 65_535) return value;
      throw problem(`${nameOf(path)} must be a port number, not ${value}`, path);
    },
    log(raw, section) {
      const { log_file: file = "" } = raw;
      const level = raw.log_level || "info";
      const format = raw.log_format || "text";
      const flaw = file === "" ? undefined : flawOfLogFile(file);
      if (flaw !== undefined) {
        const remedy = "make its directory, and give the user who runs this the right to write there";
        throw problem(`open ${file}: ${flaw}`, `${section}.log_file`, remedy);
      }
      if (!levels.includes(level.toLowerCase())) {
        const message = `could not start logger: not a valid logrus Level: ${quote(level)}`;
        throw problem(message, `${section}.log_level`, `there are ${levels.join(", ")}`);
      }
      if (!formats.includes(format.toLowerCase())) {
        const message = `could not start logger: unknown logger format: ${quote(format)}`;
        throw problem(message, `${section}.log_format`, `there are ${formats.join(", ")}`);
      }
      return { level, format, file };
    },
  };
}

/** Why the log couldn't be opened. Nothing is written before the whole configuration holds. */
function flawOfLogFile(file: string): string | undefined {
  try {
    if (!existsSync(file)) accessSync(dirname(resolve(file)), constants.W_OK | constants.X_OK);
    else if (statSync(file).isDirectory()) return "is a directory";
    else accessSync(file, constants.W_OK);
    return undefined;
  } catch (error) {
    return systemErrorText(error);
  }
}

const nameOf = (path: string): string => path.replace(/^.*\./, "");
