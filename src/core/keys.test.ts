import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, verify } from "node:crypto";
import { inspect } from "node:util";
import {
  exportPkcs8,
  exportPublicKeyInfo,
  generateKey,
  importPrivateKey,
  type KeyType,
  keyTypeOf,
  keyTypes,
  type LocalKey,
} from "./keys.ts";

const data = Buffer.from("signed bytes");
const hashes: Record<KeyType, string> = {
  "ec-p256": "sha256",
  "ec-p384": "sha384",
  "rsa-2048": "sha256",
  "rsa-4096": "sha256",
};
const jwsSizes: Record<KeyType, number> = { "ec-p256": 64, "ec-p384": 96, "rsa-2048": 256, "rsa-4096": 512 };

describe.each([...keyTypes])("a key of type %s", (type) => {
  let made: Promise<LocalKey> | undefined;
  const key = () => {
    made ??= generateKey(type);
    return made;
  };

  test("says its type", async () => {
    expect((await key()).type).toBe(type);
    expect(keyTypeOf((await key()).publicKey)).toBe(type);
  });

  test("signs in both formats with the hash of its type", async () => {
    const { publicKey, sign } = await key();
    const der = await sign(data, "der");
    const jws = await sign(data, "ieee-p1363");
    expect(verify(hashes[type], data, { key: publicKey, dsaEncoding: "der" }, der)).toBe(true);
    expect(verify(hashes[type], data, { key: publicKey, dsaEncoding: "ieee-p1363" }, jws)).toBe(true);
    expect(jws.length).toBe(jwsSizes[type]);
  });

  test("comes back from PKCS #8", async () => {
    const original = await key();
    const copy = importPrivateKey(exportPkcs8(original));
    expect(copy.type).toBe(type);
    expect(exportPublicKeyInfo(copy.publicKey)).toEqual(exportPublicKeyInfo(original.publicKey));
    expect(copy.privateKey.equals(original.privateKey)).toBe(true);
  });

  test("shows nothing of its private half when it is printed", async () => {
    const secret = await key();
    const { d = "" } = secret.privateKey.export({ format: "jwk" });
    const forms = [
      d,
      Buffer.from(d, "base64url").toString("hex"),
      Buffer.from(exportPkcs8(secret)).toString("base64"),
    ];
    const printed = [
      inspect(secret, { depth: null, showHidden: true, getters: true }),
      Bun.inspect(secret, { depth: 10 }),
      JSON.stringify(secret),
      String(secret),
      `${secret.privateKey}`,
    ].join("\n");
    for (const form of forms) {
      expect(form.length).toBeGreaterThan(20);
      expect(printed).not.toContain(form.slice(0, 20));
    }
    expect(printed).not.toContain("PRIVATE KEY");
  });
});

test("a key of another type is refused", () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-521" });
  expect(() => importPrivateKey(privateKey)).toThrow("unsupported key: ec secp521r1");
  const edwards = generateKeyPairSync("ed25519");
  expect(() => importPrivateKey(edwards.privateKey)).toThrow("unsupported key: ed25519");
});

test("what is no private key is refused without being repeated", () => {
  expect(() => importPrivateKey(Buffer.from("garbage"))).toThrow("not a PKCS #8 private key");
});
