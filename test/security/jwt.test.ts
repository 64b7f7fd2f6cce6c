/** Tokens and keys that try to be taken for what they are not. */
import { describe, expect, test } from "bun:test";
import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { SpireError } from "../../src/core/errors.ts";
import { verifyJwtSvid } from "../../src/core/jwt-svid.ts";
import { exportPublicKeyInfo } from "../../src/core/keys.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { emptyBundle, formatJwks, parseSpiffeBundle } from "../../src/core/trust-bundle.ts";
import { fromKey } from "../../src/server/api/convert-bundle.ts";

const trustDomain = parseTrustDomain("example.org");
const now = 1_800_000_000;
const claims = { sub: "spiffe://example.org/a", aud: ["x"], exp: now + 300 };

const encodePart = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
const signedPart = (header: object) => `${encodePart({ kid: "k", ...header })}.${encodePart(claims)}`;

const authorityOf = (publicKey: KeyObject) => ({
  keyId: "k",
  publicKey: exportPublicKeyInfo(publicKey),
  expiresAt: 0,
  tainted: false,
});

/** Why the token is refused; "accepted" when it isn't. */
async function outcome(token: string, publicKey: KeyObject): Promise<string> {
  const find = (asked: string, keyId: string) =>
    asked === trustDomain && keyId === "k" ? authorityOf(publicKey) : undefined;
  return verifyJwtSvid(token, find, "x", now).then(
    () => "accepted",
    (error: unknown) => SpireError.from(error).message,
  );
}

const ec = (namedCurve: string) => generateKeyPairSync("ec", { namedCurve });
const rsa = (modulusLength: number) => generateKeyPairSync("rsa", { modulusLength });

function signedWith(privateKey: KeyObject, header: object, hash = "sha256"): string {
  const signed = signedPart(header);
  const signature = sign(hash, Buffer.from(signed), { key: privateKey, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}

const badSignature = "go-jose/go-jose: error in cryptographic primitive";

describe("a token is refused", () => {
  const p256 = ec("P-256");

  test("without a signature, whatever its algorithm is called", async () => {
    for (const alg of ["none", "None", "NONE", ""]) {
      expect(await outcome(`${signedPart({ alg })}.`, p256.publicKey)).toContain(
        "unexpected signature algorithm",
      );
    }
    expect(await outcome(`${signedPart({ alg: "ES256" })}.`, p256.publicKey)).toBe(badSignature);
  });

  test("when it is authenticated with the public key as a shared secret", async () => {
    const signed = signedPart({ alg: "HS256" });
    for (const secret of [
      exportPublicKeyInfo(p256.publicKey),
      p256.publicKey.export({ type: "spki", format: "pem" }),
    ]) {
      const mac = createHmac("sha256", secret).update(signed).digest("base64url");
      expect(await outcome(`${signed}.${mac}`, p256.publicKey)).toContain("unexpected signature algorithm");
    }
  });

  test("when its algorithm belongs to another kind of key", async () => {
    const p384 = ec("P-384");
    const strong = rsa(2048);
    expect(await outcome(signedWith(p384.privateKey, { alg: "ES256" }), p384.publicKey)).toBe(badSignature);
    expect(await outcome(signedWith(p256.privateKey, { alg: "RS256" }), p256.publicKey)).toBe(badSignature);
    expect(await outcome(signedWith(strong.privateKey, { alg: "ES256" }), strong.publicKey)).toBe(
      badSignature,
    );
  });

  test("when it brings its own key", async () => {
    const own = ec("P-256");
    const jwk = own.publicKey.export({ format: "jwk" });
    const header = { alg: "ES256", jwk, jku: "https://evil.test/keys", x5u: "https://evil.test/x" };
    expect(await outcome(signedWith(own.privateKey, header), p256.publicKey)).toBe(badSignature);
  });

  test("when its signature is of zeros, too long, or in the other encoding", async () => {
    const signed = signedPart({ alg: "ES256" });
    const der = sign("sha256", Buffer.from(signed), p256.privateKey);
    for (const signature of [Buffer.alloc(64), Buffer.alloc(0), Buffer.alloc(640, 1), der]) {
      expect(await outcome(`${signed}.${signature.toString("base64url")}`, p256.publicKey)).toBe(
        badSignature,
      );
    }
  });

  test("when its RSA key is shorter than its algorithm allows (RFC 7518, 3.3)", async () => {
    const weak = rsa(1024);
    expect(await outcome(signedWith(weak.privateKey, { alg: "RS256" }), weak.publicKey)).toBe(badSignature);
  });

  test("in any other alphabet, with padding, line ends or more parts", async () => {
    const token = signedWith(p256.privateKey, { alg: "ES256" });
    expect(await outcome(token, p256.publicKey)).toBe("accepted");
    for (const changed of [`${token}=`, `${token}\n`, ` ${token}`, `${token}.`, `.${token}`]) {
      expect(await outcome(changed, p256.publicKey)).toStartWith("unable to parse JWT token");
    }
  });
});

describe("a key set", () => {
  const jwk = ec("P-256").publicKey.export({ format: "jwk" });
  const parse = (key: object) =>
    parseSpiffeBundle(trustDomain, JSON.stringify({ keys: [{ use: "jwt-svid", kid: "k", ...jwk, ...key }] }));

  test.each([
    ["of another curve than its point", { crv: "P-384" }],
    ["with a point off the curve", { x: jwk.y, y: jwk.x }],
    ["without a coordinate", { y: undefined }],
    ["of an RSA type with an EC point", { kty: "RSA" }],
    [
      "of a modulus with exponent 1",
      { kty: "RSA", n: Buffer.alloc(256, 0xfb).toString("base64url"), e: "AQ" },
    ],
  ])("with a key %s is refused", (_, key) => {
    expect(() => parse(key)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  test("never takes a shared secret for a key", () => {
    expect(parse({ kty: "oct", k: "c2VjcmV0" }).jwtAuthorities).toEqual([]);
  });

  test("keeps nothing of a private key", () => {
    const pair = ec("P-256");
    const [authority] = parse({ ...pair.privateKey.export({ format: "jwk" }) }).jwtAuthorities;
    expect(authority?.publicKey).toEqual(exportPublicKeyInfo(pair.publicKey));
  });

  test("for workloads stands although one of its keys can't be written as a JWK", () => {
    const good = authorityOf(ec("P-256").publicKey);
    const odd = { ...authorityOf(ec("secp224r1").publicKey), keyId: "odd" };
    const keys: unknown = JSON.parse(
      formatJwks({ ...emptyBundle(trustDomain), jwtAuthorities: [odd, good] }),
    );
    expect(keys).toMatchObject({ keys: [{ kid: "k" }] });
  });

  test("takes no key over the API that has no form as a JWK", () => {
    const message = (publicKey: KeyObject) => ({
      ...authorityOf(publicKey),
      publicKey: Buffer.from(exportPublicKeyInfo(publicKey)),
    });
    expect(fromKey(message(rsa(2048).publicKey)).keyId).toBe("k");
    expect(() => fromKey(message(ec("secp224r1").publicKey))).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });
});
