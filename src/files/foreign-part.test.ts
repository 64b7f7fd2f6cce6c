import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, lchownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findForeignPart, isMapped } from "./foreign-part.ts";

let shared: string;
beforeEach(() => {
  shared = mkdtempSync(join(tmpdir(), "foreign-"));
  chmodSync(shared, 0o1777);
  mkdirSync(join(shared, "part"));
  if (asRoot) lchownSync(join(shared, "part"), owner, owner);
});
afterEach(() => rmSync(shared, { recursive: true, force: true }));

/** Only root can give a file to somebody else; for others, the viewer is. */
const asRoot = process.getuid?.() === 0;
const owner = asRoot ? 65_533 : (process.getuid?.() ?? 0);
const somebody = { uid: owner + 1 };

test("users of a container are known by its map", () => {
  const everybody = "         0          0 4294967295\n";
  expect(isMapped(65_534, everybody)).toBe(true);
  const rootless = "         0       1000          1\n         1     100000      65536\n";
  expect(isMapped(65_534, rootless)).toBe(true);
  expect(isMapped(65_537, rootless)).toBe(false);
  expect(isMapped(65_534, "         0       1000          1\n")).toBe(false);
  expect(isMapped(0, "")).toBe(false);
});

test("a user without a number in the container is said to be one", () => {
  const part = join(shared, "part");
  expect(findForeignPart(part, somebody)).toEqual({ path: part, owner: `uid ${owner}` });
  expect(findForeignPart(part, { ...somebody, overflowUid: owner })).toEqual({
    path: part,
    owner: `uid ${owner} (a user from outside of this container)`,
  });
});
