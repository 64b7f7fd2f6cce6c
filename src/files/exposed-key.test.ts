import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { warnOfExposedKey } from "./exposed-key.ts";

const directory = mkdtempSync(join(tmpdir(), "exposed-"));
const path = join(directory, "ca.key");
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function warningsOf(mode: number): readonly unknown[] {
  const warnings: unknown[] = [];
  writeFileSync(path, "");
  chmodSync(path, mode);
  warnOfExposedKey(path, { warn: (_, fields) => void warnings.push(fields) });
  return warnings;
}

test.each([0o604, 0o602, 0o644, 0o666])("a key with rights 0%o is warned of, with the remedy", (mode) => {
  expect(warningsOf(mode)).toEqual([{ path, remedy: `run chmod o-rwx "${path}"` }]);
});

test.each([0o400, 0o600, 0o640, 0o660])("one with rights 0%o is not", (mode) => {
  expect(warningsOf(mode)).toEqual([]);
});

test("nor is one that isn't there", () => {
  const warn = () => {
    throw new Error("it was warned of");
  };
  expect(() => warnOfExposedKey(join(directory, "none"), { warn })).not.toThrow();
});
