/** The text of a configuration file: read from disk, with the environment's values put in if that is asked for. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { SpireError } from "../core/errors.ts";
import { quote, systemErrorText } from "../core/go-text.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws SpireError FAILED_PRECONDITION when it isn't there, or can't be read; INVALID_ARGUMENT when it is no text. */
export function readConfigText(path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, cause: unknown): SpireError {
  if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
    const message = `could not find config file ${resolve(path)}: please use the -config flag`;
    return new SpireError("FAILED_PRECONDITION", message, { cause });
  }
  if (cause instanceof TypeError) {
    return new SpireError(
      "INVALID_ARGUMENT",
      `unable to decode configuration at ${quote(path)}: it is not UTF-8 text`,
      { cause },
    );
  }
  const message = `unable to read configuration at ${quote(path)}: open ${path}: ${systemErrorText(cause)}`;
  return new SpireError("FAILED_PRECONDITION", message, { cause });
}

/** `$NAME` and `${NAME}` become the variable's value, nothing when it isn't set; `$$` becomes `$`. */
export const expandEnvironment = (text: string, environment: Environment): string =>
  text.replace(
    /\$(?:\{([^}]*)\}|([$*#@!?-]|\d|[A-Za-z_]\w*))|\$\{/g,
    (_, braced: string | undefined, bare: string | undefined) => {
      const name = braced ?? bare ?? "";
      return name === "$" ? "$" : (environment[name] ?? "");
    },
  );
