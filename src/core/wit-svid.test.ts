import { describe, expect, test } from "bun:test";
import { createHmac, generateKeyPairSync, type KeyObject } from "node:crypto";
import * as jose from "jose";
import { SpireError } from "./errors.ts";
import { signToken } from "./jws.ts";
import { exportPublicKeyInfo, generateKey, type KeyType, keyTypes, type LocalKey } from "./keys.ts";
import { parseSpiffeId } from "./spiffe-id.ts";
import type { FindTokenAuthority } from "./token-claims.ts";
import { type ConfirmationKey, requireConfirmation, signWitSvid, verifyWitSvid } from "./wit-svid.ts";

const now = 1_795_334_977;
const spiffeId = parseSpiffeId("spiffe://example.org/w");

const knowing =
  (keyId: string, { publicKey }: Pick<LocalKey, "publicKey">): FindTokenAuthority =>
  (trustDomain, asked) => {
    if (trustDomain !== "example.org") return null;
    if (asked !== keyId) return undefined;
    return { keyId, publicKey: exportPublicKeyInfo(publicKey), expiresAt: 0, tainted: false };
  };

const elliptic = (namedCurve: string) => generateKeyPairSync("ec", { namedCurve }).publicKey;
const rsa = (modulusLength: number) => generateKeyPairSync("rsa", { modulusLength }).publicKey;

const authority = await generateKey("ec-p256");
const find = knowing("k1", authority);
const confirmation: ConfirmationKey = { publicKey: elliptic("prime256v1"), algorithm: "ES256" };
const times = { issuedAt: now, expiresAt: now + 3600 };
const valid = { key: authority, keyId: "k1", spiffeId, confirmation, ...times };

function refusal(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof SpireError && error.code === "INVALID_ARGUMENT") return error.message;
    throw error;
  }
  return "accepted";
}

const decoded = (token: string) => ({
  header: jose.decodeProtectedHeader(token),
  claims: jose.decodeJwt(token),
});

describe("signing", () => {
  test("a token has header and claims in SPIRE's form and order", async () => {
    const token = await signWitSvid({ ...valid, issuer: "https://issuer.example" });
    const { header, claims } = decoded(token);
    expect(header).toEqual({ alg: "ES256", kid: "k1", typ: "wit+jwt" });
    expect(Object.keys(claims)).toEqual(["cnf", "exp", "iat", "iss", "sub"]);
    const { x, y } = confirmation.publicKey.export({ format: "jwk" });
    const jwk = { kty: "EC", crv: "P-256", alg: "ES256", x, y };
    expect(JSON.stringify(claims["cnf"])).toBe(JSON.stringify({ jwk }));
    expect(claims).toMatchObject({ exp: now + 3600, iat: now, iss: "https://issuer.example", sub: spiffeId });
  });

  test("no issuer is claimed unless there is one", async () => {
    expect(decoded(await signWitSvid(valid)).claims).not.toHaveProperty("iss");
  });

  test("the workload's RSA key stands in it with its algorithm", async () => {
    const publicKey = rsa(2048);
    const { claims } = decoded(
      await signWitSvid({ ...valid, confirmation: { publicKey, algorithm: "PS384" } }),
    );
    const { n, e } = publicKey.export({ format: "jwk" });
    expect(JSON.stringify(claims["cnf"])).toBe(JSON.stringify({ jwk: { kty: "RSA", alg: "PS384", n, e } }));
  });

  test.each(keyTypes)("jose and this validator accept what an authority of type %s signs", async (type) => {
    const key = await generateKey(type);
    const token = await signWitSvid({ ...valid, key });
    const currentDate = new Date(now * 1000);
    await jose.jwtVerify(token, key.publicKey, { typ: "wit+jwt", currentDate, subject: spiffeId });
    const verified = verifyWitSvid(token, knowing("k1", key), now);
    expect(verified).toMatchObject({ spiffeId, keyId: "k1", expiresAt: now + 3600 });
    expect(verified.confirmation.algorithm).toBe("ES256");
    expect(verified.confirmation.publicKey.equals(confirmation.publicKey)).toBe(true);
  });
});

describe("the workload's key", () => {
  const good: readonly (readonly [string, KeyObject, string])[] = [
    ["P-256", elliptic("prime256v1"), "ES256"],
    ["P-384", elliptic("secp384r1"), "ES384"],
    ["P-521", elliptic("secp521r1"), "ES512"],
    ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(
      (algorithm) => ["RSA", rsa(2048), algorithm] as const,
    ),
  ];
  test.each(good)("of kind %s goes with its algorithm", (_, publicKey, algorithm) => {
    expect(refusal(() => requireConfirmation({ publicKey, algorithm }))).toBe("accepted");
  });

  const bad: readonly (readonly [string, KeyObject, string])[] = [
    ["unsupported signing algorithm for ec-p256 key: ES384", elliptic("prime256v1"), "ES384"],
    ["unsupported signing algorithm for ec-p384 key: ", elliptic("secp384r1"), ""],
    ["unsupported signing algorithm for ec-p521 key: RS256", elliptic("secp521r1"), "RS256"],
    ["unsupported signing algorithm for RSA key: ES256", rsa(2048), "ES256"],
    ["unsupported RSA key: it has fewer than 2048 bits", rsa(1024), "RS256"],
    ["unsupported key type 'ed25519'", generateKeyPairSync("ed25519").publicKey, "EdDSA"],
  ];
  test.each(bad)("is refused: %s", (message, publicKey, algorithm) => {
    expect(refusal(() => requireConfirmation({ publicKey, algorithm }))).toBe(message);
  });
});

describe("validating", () => {
  const signed = (claims: object, type = "wit+jwt", keyId = "k1") =>
    signToken({ key: authority, keyId, type }, { ...claims });
  const cnf = { jwk: { ...confirmation.publicKey.export({ format: "jwk" }), alg: "ES256" } };
  const good = { cnf, exp: now + 3600, sub: spiffeId };
  const { d: _, ...p256 } = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({
    format: "jwk",
  });

  test("only what must be there has to be", async () => {
    expect(verifyWitSvid(await signed(good), find, now).spiffeId).toBe(spiffeId);
  });

  test("the time of issue may lie in the future", async () => {
    expect(verifyWitSvid(await signed({ ...good, iat: now + 1e6 }), find, now).spiffeId).toBe(spiffeId);
  });

  const broken: readonly (readonly [string, object])[] = [
    ["token missing subject claim", { ...good, sub: "" }],
    ["token missing exp claim", { cnf, sub: spiffeId }],
    ["token has expired", { ...good, exp: now - 61 }],
    ["go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)", { ...good, nbf: now + 61 }],
    ["token has an audience claim, which a WIT-SVID may not", { ...good, aud: ["x"] }],
    ["token missing cnf claim with a jwk", { exp: now + 1, sub: spiffeId }],
    ["token missing cnf claim with a jwk", { ...good, cnf: { kid: "x" } }],
    ["token has a cnf.jwk without an algorithm", { ...good, cnf: { jwk: p256 } }],
    [
      "unsupported signing algorithm for ec-p256 key: none",
      { ...good, cnf: { jwk: { ...p256, alg: "none" } } },
    ],
    ["token has a cnf.jwk that is no public key", { ...good, cnf: { jwk: { kty: "oct", alg: "HS256" } } }],
    ['no keys found for trust domain "other.org"', { ...good, sub: "spiffe://other.org/w" }],
  ];
  test.each(broken)("%s", async (message, claims) => {
    const token = await signed(claims);
    expect(refusal(() => verifyWitSvid(token, find, now))).toBe(message);
  });

  test("a JWT-SVID is none, whoever signed it", async () => {
    const token = await signed(good, "JWT");
    expect(refusal(() => verifyWitSvid(token, find, now))).toContain("token is no WIT-SVID");
  });

  test("an unknown or missing key ID is refused", async () => {
    const unknown = await signed(good, "wit+jwt", "k2");
    expect(refusal(() => verifyWitSvid(unknown, find, now))).toContain('public key "k2" not found');
    const missing = await signed(good, "wit+jwt", "");
    expect(refusal(() => verifyWitSvid(missing, find, now))).toBe("token header missing key id");
  });

  test("another key's signature, a changed claim and a shared secret are refused", async () => {
    const other: KeyType = "ec-p256";
    const foreign = await signToken(
      { key: await generateKey(other), keyId: "k1", type: "wit+jwt" },
      { ...good },
    );
    const [header = "", , signature = ""] = (await signed(good)).split(".");
    const claims = Buffer.from(JSON.stringify({ ...good, sub: "spiffe://example.org/x" })).toString(
      "base64url",
    );
    for (const token of [foreign, `${header}.${claims}.${signature}`]) {
      expect(refusal(() => verifyWitSvid(token, find, now))).toContain("error in cryptographic primitive");
    }
    const weak = `${Buffer.from('{"alg":"HS256","kid":"k1","typ":"wit+jwt"}').toString("base64url")}.${claims}`;
    const mac = createHmac("sha256", exportPublicKeyInfo(authority.publicKey))
      .update(weak)
      .digest("base64url");
    expect(refusal(() => verifyWitSvid(`${weak}.${mac}`, find, now))).toContain(
      "unexpected signature algorithm",
    );
  });
});
