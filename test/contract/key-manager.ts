/** What every key manager must do, as tests to run against each instance. */
import { describe, expect, test } from "bun:test";
import { verify } from "node:crypto";
import { exportPublicKeyInfo, type KeyType, type SigningKey } from "../../src/core/keys.ts";
import type { KeyManager } from "../../src/plugins/key-managers/index.ts";

const message = new TextEncoder().encode("to be signed");

const publicDer = ({ publicKey }: SigningKey) => Buffer.from(exportPublicKeyInfo(publicKey)).toString("hex");

async function signatureHolds(key: SigningKey): Promise<boolean> {
  const hash = key.type === "ec-p384" ? "sha384" : "sha256";
  return verify(hash, message, key.publicKey, await key.sign(message, "der"));
}

/** `create` makes an empty key manager. */
export function keyManagerContract(name: string, create: () => KeyManager): void {
  describe(`key manager contract: ${name}`, () => {
    const types: readonly KeyType[] = ["ec-p256", "ec-p384", "rsa-2048"];
    test.each(types)("makes a %s key that signs", async (type) => {
      const key = await create().generate("x509-CA-A", type);
      expect(key.id).toBe("x509-CA-A");
      expect(key.type).toBe(type);
      expect(await signatureHolds(key)).toBe(true);
    });

    test("writes ECDSA signatures in the form asked for", async () => {
      const key = await create().generate("JWT-Signer-A", "ec-p256");
      const signature = await key.sign(message, "ieee-p1363");
      expect(signature.length).toBe(64);
      const holds = verify("sha256", message, { key: key.publicKey, dsaEncoding: "ieee-p1363" }, signature);
      expect(holds).toBe(true);
    });

    test("begins empty", async () => {
      const manager = create();
      expect(await manager.list()).toEqual([]);
      expect(await manager.get("x509-CA-A")).toBeUndefined();
    });

    test("finds each key under its ID", async () => {
      const manager = create();
      const a = await manager.generate("x509-CA-A", "ec-p256");
      const b = await manager.generate("x509-CA-B", "ec-p256");
      const foundA = await manager.get("x509-CA-A");
      expect(foundA && publicDer(foundA)).toBe(publicDer(a));
      const listed = (await manager.list()).map((key) => [key.id, publicDer(key)] as const);
      expect(new Map(listed)).toEqual(
        new Map([
          ["x509-CA-A", publicDer(a)],
          ["x509-CA-B", publicDer(b)],
        ]),
      );
    });

    test("replaces the key of an ID; who holds the old one can still sign with it", async () => {
      const manager = create();
      const old = await manager.generate("x509-CA-A", "ec-p256");
      const current = await manager.generate("x509-CA-A", "ec-p384");
      const found = await manager.get("x509-CA-A");
      expect(found && publicDer(found)).toBe(publicDer(current));
      expect(await manager.list()).toHaveLength(1);
      expect(await signatureHolds(old)).toBe(true);
    });

    test("makes keys side by side", async () => {
      const manager = create();
      const ids = ["x509-CA-A", "x509-CA-B", "JWT-Signer-A", "JWT-Signer-B"];
      await Promise.all(ids.map((id) => manager.generate(id, "ec-p256")));
      expect((await manager.list()).map(({ id }) => id).sort()).toEqual(ids.sort());
    });

    test("shows no key material when it is printed", async () => {
      const key = await create().generate("x509-CA-A", "ec-p256");
      expect(Bun.inspect(key)).not.toContain("PRIVATE");
      expect(JSON.stringify(key)).not.toContain('"d"');
    });
  });
}
