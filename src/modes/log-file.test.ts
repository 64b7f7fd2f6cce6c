import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { logToStream, openLogFile } from "./log-file.ts";

test("lines that can't be written are told of once, and end nothing", () => {
  const reasons: string[] = [];
  const log = openLogFile("/dev/full", (reason) => reasons.push(reason));
  log.write("one\n");
  log.write("two\n");
  log.close();
  expect(reasons).toEqual([expect.stringMatching(/"\/dev\/full": ENOSPC.*make room on its file system/)]);
});

test("a file is nobody's but the owner's and the group's, also after it was moved away", () => {
  const directory = mkdtempSync(join(tmpdir(), "log-file-"));
  const path = join(directory, "server.log");
  const umask = process.umask(0);
  try {
    const log = openLogFile(path, () => {});
    log.write("one\n");
    renameSync(path, `${path}.1`);
    log.reopen();
    log.write("two\n");
    log.close();
    expect([readFileSync(`${path}.1`, "utf8"), readFileSync(path, "utf8")]).toEqual(["one\n", "two\n"]);
    expect(statSync(path).mode & 0o777).toBe(0o640);
  } finally {
    process.umask(umask);
    rmSync(directory, { recursive: true, force: true });
  }
});

test("a standard output that nobody takes any more ends nothing either", async () => {
  const reasons: string[] = [];
  const failed = Promise.withResolvers<void>();
  const stream = new Writable({
    autoDestroy: false,
    write: (_, __, done) => done(new Error("EPIPE: broken pipe, write")),
  });
  const log = logToStream(stream, (reason) => {
    reasons.push(reason);
    failed.resolve();
  });
  log.write("one\n");
  await failed.promise;
  log.write("two\n");
  await new Promise((resolve) => setImmediate(resolve));
  expect(reasons).toEqual(["could not write the log: EPIPE: broken pipe, write"]);
});
