import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failureOf } from "../../../test/server/failure.ts";
import { exportPkcs8, exportPublicKeyInfo } from "../../core/keys.ts";
import { createDiskKeyManager } from "./disk.ts";

const stockFile = join(import.meta.dir, "../../../test/golden/disk/server/keys.json");
const root = mkdtempSync(join(tmpdir(), "spire-disk-keys-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
function newPath(): string {
  folders += 1;
  const folder = join(root, String(folders));
  mkdirSync(folder);
  return join(folder, "keys.json");
}

describe("the file of the disk key manager", () => {
  test("takes up the keys of a stock server", async () => {
    const path = newPath();
    writeFileSync(path, readFileSync(stockFile), { mode: 0o600 });
    const manager = createDiskKeyManager({ path });
    const keys = await manager.list();
    expect(keys.map(({ id, type }) => [id, type])).toEqual([
      ["JWT-Signer-A", "ec-p256"],
      ["x509-CA-A", "ec-p256"],
    ]);
  });

  test("has the stock shape: what is read is written again byte for byte", async () => {
    const path = newPath();
    writeFileSync(path, readFileSync(stockFile), { mode: 0o600 });
    const manager = createDiskKeyManager({ path });
    const made = await manager.generate("x509-CA-B", "ec-p256");
    const stock: unknown = JSON.parse(readFileSync(stockFile, "utf8"));
    const text = readFileSync(path, "utf8");
    const encoded = Buffer.from(exportPkcs8(made)).toString("base64");
    expect(JSON.parse(text)).toEqual({ keys: { ...Object(stock).keys, "x509-CA-B": encoded } });
    expect(text).toStartWith('{\n\t"keys": {\n\t\t"JWT-Signer-A": "');
    expect(text).toEndWith('"\n\t}\n}');
  });

  test("survives a restart", async () => {
    const path = newPath();
    const made = await createDiskKeyManager({ path }).generate("x509-CA-A", "ec-p384");
    const found = await createDiskKeyManager({ path }).get("x509-CA-A");
    expect(found && exportPublicKeyInfo(found.publicKey)).toEqual(exportPublicKeyInfo(made.publicKey));
  });

  test("is for its owner alone and leaves no temporary file", async () => {
    const path = newPath();
    await createDiskKeyManager({ path }).generate("x509-CA-A", "ec-p256");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(path, ".."))).toEqual(["keys.json"]);
  });

  test("is made with its folder, which is for its owner alone", async () => {
    const path = join(newPath(), "..", "deeper", "keys.json");
    await createDiskKeyManager({ path }).generate("x509-CA-A", "ec-p256");
    expect(statSync(join(path, "..")).mode & 0o777).toBe(0o700);
  });

  const broken: readonly [string, string][] = [
    ["truncated", '{\n\t"keys": {\n\t\t"x509-CA-A": "MIGHAgEA'],
    ["empty", ""],
    ["no object", "[]"],
    ["without keys", "{}"],
    ["a key that is no text", '{"keys":{"x509-CA-A":7}}'],
    ["a key that is no PKCS #8", '{"keys":{"x509-CA-A":"c2VjcmV0LXRleHQ="}}'],
  ];
  test.each(broken)("refused when %s, by name, and left as it is", async (_, content) => {
    const path = newPath();
    writeFileSync(path, content);
    const manager = createDiskKeyManager({ path });
    const failure = await failureOf(manager.generate("x509-CA-B", "ec-p256"));
    expect(failure.code).toBe("FAILED_PRECONDITION");
    expect(failure.message).toContain(`key file "${path}" is damaged`);
    expect(failure.message).not.toContain("secret-text");
    expect(readFileSync(path, "utf8")).toBe(content);
  });

  test("that can't be written fails the request and keeps the keys that were there", async () => {
    const path = newPath();
    const manager = createDiskKeyManager({ path });
    const old = await manager.generate("x509-CA-A", "ec-p256");
    const folder = join(path, "..");
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "in the way");
    expect((await failureOf(manager.generate("x509-CA-A", "ec-p256"))).message).toContain(
      `"${path}" can't be written`,
    );
    expect(await manager.get("x509-CA-A")).toBe(old);
    rmSync(folder);
    await manager.generate("x509-CA-B", "ec-p256");
    expect(await manager.list()).toHaveLength(2);
  });
});
