/** The text of a configuration file: read from disk, with the environment's values put in if that is asked for. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { SpireError } from "../core/errors.ts";
import { quote, systemErrorText } from "../core/go-text.ts";
import type { Position } from "./tree.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws SpireError FAILED_PRECONDITION when it isn't there, or can't be read; INVALID_ARGUMENT when it is no text. */
export const readConfigText = (path: string): string =>
  readText(path, (absolute) => `could not find config file ${absolute}: please use the -config flag`);

/** What `plugin_data_file` names. @throws SpireError as above. */
export const readPluginText = (path: string): string =>
  readText(path, () => `open ${path}: no such file or directory`);

function readText(path: string, missing: (path: string) => string): string {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw unreadable(path, error, missing);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    const { line, column } = placeOfDamage(bytes);
    const message = `unable to decode configuration at ${quote(path)}: At ${line}:${column}: illegal UTF-8 encoding`;
    throw new SpireError("INVALID_ARGUMENT", message, { cause });
  }
}

/** Where the text stops being UTF-8: behind as many characters as can be read. */
function placeOfDamage(bytes: Uint8Array): Position {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  try {
    for (const byte of bytes) text += decoder.decode(Uint8Array.of(byte), { stream: true });
  } catch {
    // Here.
  }
  const lines = text.split("\n");
  return { line: lines.length, column: Array.from(lines.at(-1) ?? "").length + 1 };
}

function unreadable(path: string, cause: unknown, missing: (path: string) => string): SpireError {
  if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") {
    const message = missing(resolve(path));
    return new SpireError("FAILED_PRECONDITION", message, { cause });
  }
  const action = cause instanceof Error && "code" in cause && cause.code === "EISDIR" ? "read" : "open";
  const message = `unable to read configuration at ${quote(path)}: ${action} ${path}: ${systemErrorText(cause)}`;
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
