/** What `run` and `validate` of server and agent have in common: log flags, and flags in place of the file's options. */
import { existsSync } from "node:fs";
import type { Override, Sources } from "../config/origin.ts";
import type { Environment } from "../config/text.ts";
import { invalidArgument } from "../core/errors.ts";
import { boolFlag, stringFlag } from "./flags.ts";

export const configFlags = {
  config: stringFlag("Path to a SPIRE config file: HCL, JSON, or YAML if its name ends in .yaml"),
  expandEnv: boolFlag("Expand environment variables in SPIRE config file"),
  logFile: stringFlag("File to write logs to; standard output if not set"),
  logFormat: stringFlag("Log format: text or json; text if not set", "", ["text", "json"]),
  logLevel: stringFlag("Log level: panic, fatal, error, warning, info, debug or trace; info if not set"),
  logSourceLocation: boolFlag("Include source file, line number and function name in log lines"),
};

/** The options of the file that those flags take the place of. */
export const logOptions = {
  logFile: "log_file",
  logFormat: "log_format",
  logLevel: "log_level",
  logSourceLocation: "log_source_location",
};

interface Given {
  readonly flags: Readonly<Record<string, unknown>> & {
    readonly config: string;
    readonly expandEnv: boolean;
  };
  /** Names of the flags that were given. */
  readonly given: ReadonlySet<string>;
  readonly environment: Environment;
}

/** Where a command's configuration comes from. `options`: flag > option of the section. */
export function sourcesOf(
  { flags, given, environment }: Given,
  section: "server" | "agent",
  options: Readonly<Record<string, string>>,
  path: string | undefined,
): Sources {
  const overrides = Object.entries(options).flatMap(([flag, option]): Override[] => {
    const value = flags[flag];
    // SPIRE, too, takes an empty text for none.
    if (!given.has(flag) || value === "") return [];
    if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean") return [];
    return [{ path: `${section}.${option}`, flag, value }];
  });
  return { path, expandEnv: flags.expandEnv, environment, overrides };
}

/** The file that `run` reads: the one that is named, else the usual one if it is there, else flags are all. */
export function pathToRun(named: string, usual: string): string | undefined {
  if (named !== "") return named;
  return existsSync(usual) ? usual : undefined;
}

/** @param lowest 0 where a free port may be asked for. @throws SpireError INVALID_ARGUMENT. */
export function checkPort(port: number, option: string, lowest: 0 | 1): number {
  if (port < lowest || port > 65_535) throw invalidArgument(`${option} must be a port number, not ${port}`);
  return port;
}
