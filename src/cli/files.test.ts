import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { privateMode, publicMode, readTextFile, writeTextFile } from "./files.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "files-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const terminal = {
  out: () => {},
  err: () => {},
  readInput: async () => "from standard input",
  untilStopped: () => Promise.resolve(),
  env: {},
};

test("a file is replaced with the permissions asked for, and nothing else is left", async () => {
  const path = join(folder, "key.pem");
  writeFileSync(path, "old", { mode: 0o644 });
  await writeTextFile(path, "new", privateMode);
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder)).toEqual(["key.pem"]);
});

test("who couldn't read the old file can't read the new one", async () => {
  const path = join(folder, "svid.pem");
  writeFileSync(path, "old", { mode: 0o600 });
  await writeTextFile(path, "new", publicMode);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  rmSync(path);
});

test("a directory is no file to read", async () => {
  const failure = await readTextFile(folder, terminal).catch((error: unknown) => error);
  expect(String(failure)).toContain(`read ${folder}: is a directory`);
});

test("errors name the file as it was given", async () => {
  const path = join(folder, "none", "x");
  expect(writeTextFile(path, "", privateMode)).rejects.toThrow(`open ${path}: no such file or directory`);
  expect(readTextFile(path, terminal)).rejects.toThrow(`open ${path}: no such file or directory`);
});

test("a dash is standard input", async () => {
  expect(await readTextFile("-", terminal)).toBe("from standard input");
});
