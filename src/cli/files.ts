/** Reads and writes the files that a command names, with errors as Go words them. */
import { readFile, stat } from "node:fs/promises";
import { SpireError } from "../core/errors.ts";
import { replaceFile } from "../files/replace-file.ts";
import type { Terminal } from "./command.ts";
import { systemErrorText } from "./go-text.ts";

/** `open <path>: no such file or directory` and its like. */
function fileError(path: string, error: unknown, action = "open"): SpireError {
  return new SpireError("FAILED_PRECONDITION", `${action} ${path}: ${systemErrorText(error)}`, {
    cause: error,
  });
}

/** The file's text; `-` is standard input. @throws SpireError FAILED_PRECONDITION. */
export async function readTextFile(path: string, terminal: Terminal): Promise<string> {
  if (path === "-") return terminal.readInput();
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const isDirectory = error instanceof Error && "code" in error && error.code === "EISDIR";
    throw fileError(path, error, isDirectory ? "read" : "open");
  }
}

/** Anyone may read it. */
export const publicMode = 0o644;
/** Private keys and tokens. */
export const privateMode = 0o600;

/** Replaces the file in one step; who can't read the old one can't read the new. @throws SpireError FAILED_PRECONDITION. */
export async function writeTextFile(path: string, text: string, mode: number): Promise<void> {
  try {
    const before = await stat(path).catch(() => undefined);
    await replaceFile(path, text, before?.isFile() ? mode & before.mode : mode);
  } catch (error) {
    throw fileError(path, error);
  }
}
