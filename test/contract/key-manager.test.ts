import { afterAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDiskKeyManager } from "../../src/plugins/key-managers/disk.ts";
import { createMemoryKeyManager } from "../../src/plugins/key-managers/memory.ts";
import { keyManagerContract } from "./key-manager.ts";

const directory = mkdtempSync(join(tmpdir(), "spire-keys-"));
let files = 0;
afterAll(() => rmSync(directory, { recursive: true, force: true }));

keyManagerContract("memory", createMemoryKeyManager);
keyManagerContract("disk", () => {
  files += 1;
  return createDiskKeyManager({ path: join(directory, `${files}`, "keys.json") });
});
