/** The file of a backup: whatever happened to it is noticed. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Archive, type BackupFacts, openArchive, writeArchive } from "./archive.ts";
import { formatManifest, parseManifest } from "./manifest.ts";

let directory: string;
let path: string;
const opened: Archive[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-archive-"));
  path = join(directory, "a.backup");
});
afterEach(async () => {
  for (const archive of opened.splice(0)) await archive.close();
  rmSync(directory, { recursive: true, force: true });
});

async function read(): Promise<Archive> {
  const archive = await openArchive(path);
  opened.push(archive);
  return archive;
}

const facts: BackupFacts = {
  trustDomain: "example.org",
  schemaVersion: 3,
  createdAt: "2026-11-22T08:00:00.000Z",
  programVersion: "1.0.0",
  sequence: 7,
  counts: { entries: 1, agents: 2, bannedAgents: 1, bundles: 3, federationRelationships: 4, joinTokens: 5 },
};
const keys = Buffer.from('{"keys":{}}');

async function write(database = randomBytes(300), withKeys = true): Promise<Buffer> {
  const source = join(directory, "source");
  writeFileSync(source, database);
  await writeArchive(path, facts, source, withKeys ? keys : undefined);
  return database;
}

const failure = async (): Promise<{ code?: string; message?: string }> =>
  read().then(
    () => ({}),
    (error) => error,
  );

test("a backup gives back what was put in, and belongs to its owner alone", async () => {
  const database = await write(randomBytes(3_000_000));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const archive = await read();
  expect(archive.manifest).toMatchObject(facts);
  const target = join(directory, "target");
  await archive.extractDatabase(target);
  expect(readFileSync(target).equals(database)).toBe(true);
  expect(statSync(target).mode & 0o777).toBe(0o600);
  expect(await archive.readKeys()).toEqual(keys);
});

test("says in its second line, and in its manifest, whether it holds keys", async () => {
  await write(randomBytes(10), false);
  const second = () => JSON.parse(readFileSync(path, "latin1").split("\n")[1] ?? "");
  expect(second().holds_ca_keys).toBe(false);
  expect(await (await read()).readKeys()).toBeUndefined();
  rmSync(path);
  await write(randomBytes(10), true);
  expect(second().holds_ca_keys).toBe(true);
});

test("never takes the place of a file", async () => {
  writeFileSync(path, "mine");
  expect((await write().catch((error) => error)).code).toBe("EEXIST");
  expect(readFileSync(path, "utf8")).toBe("mine");
});

describe("a backup is refused", () => {
  test("whichever byte of it was changed", async () => {
    await write();
    const whole = readFileSync(path);
    const unnoticed: number[] = [];
    for (let at = 0; at < whole.length; at += 1) {
      const changed = Buffer.from(whole);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
      writeFileSync(path, changed);
      const { code = "" } = await failure();
      if (!["DATA_LOSS", "INVALID_ARGUMENT", "FAILED_PRECONDITION"].includes(code)) unnoticed.push(at);
    }
    expect(unnoticed).toEqual([]);
  });

  test("at whichever byte it was cut, and with a byte too many", async () => {
    await write();
    const whole = readFileSync(path);
    for (let length = 0; length < whole.length; length += 1) {
      writeFileSync(path, whole.subarray(0, length));
      expect((await failure()).code).toMatch(/^(DATA_LOSS|INVALID_ARGUMENT)$/);
    }
    writeFileSync(path, Buffer.concat([whole, Buffer.from("\n")]));
    expect(await failure()).toMatchObject({ code: "DATA_LOSS" });
  });

  test("that is none, is not there, or is of a newer form", async () => {
    expect(await failure()).toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining(path) });
    writeFileSync(path, "SQLite format 3\0");
    expect(await failure()).toMatchObject({ code: "INVALID_ARGUMENT" });
    writeFileSync(path, "SPIRE-BACKUP 2\n{}\n");
    expect(await failure()).toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringMatching(/form 2, written by a newer program; this one knows form 1/),
    });
  });

  test("when its keys change between its check and their use", async () => {
    await write();
    const archive = await read();
    const changed = readFileSync(path);
    const at = changed.lastIndexOf(keys);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    writeFileSync(path, changed);
    expect(await archive.readKeys().catch((error) => error)).toMatchObject({ code: "DATA_LOSS" });
  });

  test("when it changes between its check and its use", async () => {
    const database = await write();
    const archive = await read();
    const changed = readFileSync(path);
    changed.writeUInt8(changed.readUInt8(changed.indexOf(database)) ^ 1, changed.indexOf(database));
    writeFileSync(path, changed);
    const target = join(directory, "target");
    expect(await archive.extractDatabase(target).catch((error) => error)).toMatchObject({
      code: "DATA_LOSS",
    });
    expect(existsSync(target)).toBe(true);
  });
});

test("a manifest is read as it was written, and not with a field missing", () => {
  const manifest = { ...facts, database: { bytes: 1, sha256: "00" } };
  const line = formatManifest(manifest);
  expect(parseManifest(line)).toEqual(manifest);
  const { sequence: _, ...lacking } = JSON.parse(line);
  expect(parseManifest(JSON.stringify(lacking))).toBeUndefined();
});
