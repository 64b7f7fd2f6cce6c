/** A clock of the machine that a test can put forward under programs that run: libfaketime, preloaded. */
import { renameSync, writeFileSync } from "node:fs";

const [library] = [...new Bun.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1").scanSync("/")];

export interface FakeClock {
  /** The environment that puts a program under this clock. */
  readonly env: Readonly<Record<string, string>>;
  /** Unix milliseconds, as the programs see it. */
  now(): number;
  /** Puts the clock forward for all of them at once. */
  putForward(byMs: number): void;
}

/** @param file where programs read what the clock shows. @throws Error when libfaketime isn't there. */
export function createFakeClock(file: string): FakeClock {
  if (library === undefined) throw new Error("libfaketime is not installed");
  let ahead = 0;
  const write = () => {
    writeFileSync(`${file}.new`, `+${ahead / 1000}\n`);
    renameSync(`${file}.new`, file);
  };
  write();
  return {
    env: {
      LD_PRELOAD: `/${library}`.replace("//", "/"),
      FAKETIME_TIMESTAMP_FILE: file,
      // Read anew each time: all programs of a test see a step at the same moment.
      FAKETIME_NO_CACHE: "1",
      // Waits are measured by the monotonic clock, which no administrator can set.
      DONT_FAKE_MONOTONIC: "1",
    },
    now: () => Date.now() + ahead,
    putForward(byMs) {
      ahead += byMs;
      write();
    },
  };
}
