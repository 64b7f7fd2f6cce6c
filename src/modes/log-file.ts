/** Where a program logs to: a file, or its standard output. */
import { closeSync, openSync, writeSync } from "node:fs";
import type { Writable } from "node:stream";
import { SpireError } from "../core/errors.ts";
import { reasonOf } from "../files/failure.ts";

interface LogOutput {
  /** A line that can't be written is lost; the program goes on. */
  write(line: string): void;
  close(): void;
}

interface LogFile extends LogOutput {
  /** Goes on in a new file where somebody has moved the old one away. @throws SpireError; then the old one stays. */
  reopen(): void;
}

/**
 * @param onFailure told why, once until lines can be written again: a log on a full disk must not end a server whose
 * database and keys lie on another one.
 * @throws SpireError FAILED_PRECONDITION when it can't be opened.
 */
export function openLogFile(path: string, onFailure: (reason: string) => void): LogFile {
  let descriptor = openForAppend(path);
  let isFailing = false;
  return {
    write(line) {
      try {
        writeSync(descriptor, line);
        isFailing = false;
      } catch (error) {
        if (!isFailing) onFailure(`could not write to the log "${path}": ${reasonOf(error)}`);
        isFailing = true;
      }
    },
    reopen() {
      const old = descriptor;
      descriptor = openForAppend(path);
      closeSync(old);
    },
    close: () => closeSync(descriptor),
  };
}

/** @param onFailure as above; by itself a stream that fails ends the program. */
export function logToStream(
  stream: Pick<Writable, "write" | "on" | "off">,
  onFailure: (reason: string) => void,
): LogOutput {
  let isFailing = false;
  const note = (error: Error) => {
    if (!isFailing) onFailure(`could not write the log: ${reasonOf(error)}`);
    isFailing = true;
  };
  stream.on("error", note);
  return {
    write: (line) => void stream.write(line),
    close: () => void stream.off("error", note),
  };
}

/** Readable by the group, as SPIRE has it. */
function openForAppend(path: string): number {
  try {
    return openSync(path, "a", 0o640);
  } catch (error) {
    throw new SpireError("FAILED_PRECONDITION", `could not start logger: ${reasonOf(error)} (log_file)`, {
      cause: error,
    });
  }
}
