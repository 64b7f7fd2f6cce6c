/** What `run` of server and agent have in common: log flags, and checks in the words of SPIRE's configuration. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseTrustDomainOrId, type TrustDomain } from "../core/spiffe-id.ts";
import { boolFlag, stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";

export interface LogSettings {
  readonly level: string;
  readonly format: string;
  /** Empty = standard output. */
  readonly file: string;
}

export const logFlags = {
  logFile: stringFlag("File to write logs to; standard output if not set"),
  logFormat: stringFlag("Log format: text or json", "text"),
  logLevel: stringFlag("Log level: panic, fatal, error, warning, info, debug or trace", "info"),
  logSourceLocation: boolFlag("Include source file, line number and function name in log lines"),
};

interface LogFlagValues {
  readonly logFile: string;
  readonly logFormat: string;
  readonly logLevel: string;
}

export const readLogSettings = ({ logFile, logFormat, logLevel }: LogFlagValues): LogSettings => ({
  level: logLevel,
  format: logFormat,
  file: logFile,
});

/** A flag that would change nothing is an error: whoever gave it counts on it. */
export function refuseFlags(given: ReadonlySet<string>, unsupported: readonly string[]): void {
  const refused = unsupported.find((name) => given.has(name));
  if (refused) throw new SpireError("UNIMPLEMENTED", `flag -${refused} is not supported yet`);
}

/** @param option the name in SPIRE's configuration. @throws SpireError INVALID_ARGUMENT. */
export function required(value: string, option: string): string {
  if (value === "") throw invalidArgument(`${option} must be configured`);
  return value;
}

export function readTrustDomain(text: string): TrustDomain {
  try {
    return parseTrustDomainOrId(required(text, "trust_domain"));
  } catch (error) {
    if (text === "") throw error;
    throw SpireError.from(error).within(`could not parse trust_domain ${quote(text)}`);
  }
}

/** @param lowest 0 where a free port may be asked for. */
export function checkPort(port: number, option: string, lowest: 0 | 1): number {
  if (port < lowest || port > 65_535) throw invalidArgument(`${option} must be a port number, not ${port}`);
  return port;
}
