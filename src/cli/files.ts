/** Reads and writes the files that a command names, with errors as Go words them. */
import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { SpireError } from "../core/errors.ts";
import type { Terminal } from "./command.ts";
import { systemErrorText } from "./go-text.ts";

/** `open <path>: no such file or directory` and its like. */
export function fileError(path: string, error: unknown): SpireError {
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

/**
 * Replaces the file in one step: a reader sees the old text or the new, and never with other permissions.
 * @throws SpireError FAILED_PRECONDITION.
 */
export async function writeTextFile(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.chmod(mode);
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw fileError(path, error);
  }
}
