/** Reads and writes the files that a command names, with errors as Go words them. */
import { readFile } from "node:fs/promises";
import { SpireError } from "../core/errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { Terminal } from "./command.ts";
import { systemErrorText } from "./go-text.ts";

/** `open <path>: no such file or directory` and its like. */
function fileError(path: string, error: unknown): SpireError {
  return new SpireError("FAILED_PRECONDITION", `open ${path}: ${systemErrorText(error)}`, { cause: error });
}

/** The file's text; `-` is standard input. @throws SpireError FAILED_PRECONDITION. */
export async function readTextFile(path: string, terminal: Terminal): Promise<string> {
  if (path === "-") return terminal.readInput();
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fileError(path, error);
  }
}

/** Anyone may read it. */
export const publicMode = 0o644;
/** Private keys and tokens. */
export const privateMode = 0o600;

/** Replaces the file in one step. @throws SpireError FAILED_PRECONDITION. */
export async function writeTextFile(path: string, text: string, mode: number): Promise<void> {
  try {
    await replaceFile(path, text, mode);
  } catch (error) {
    throw fileError(path, error);
  }
}
