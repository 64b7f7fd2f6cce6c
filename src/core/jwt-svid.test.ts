import { describe, expect, test } from "bun:test";
import { generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import * as jose from "jose";
import { SpireError } from "./errors.ts";
import { createTokenId, decodeJwtSvid, signJwtSvid, verifyJwtSvid } from "./jwt-svid.ts";
import { exportPublicKeyInfo, generateKey, type KeyType, keyTypes, type LocalKey } from "./keys.ts";
import { parseSpiffeId, parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";
import type { FindTokenAuthority } from "./token-claims.ts";
import { parseSpiffeBundle, type TokenAuthority, type TrustBundle } from "./trust-bundle.ts";

const readGolden = (name: string) =>
  readFileSync(new URL(`../../test/golden/${name}`, import.meta.url), "utf8");

const now = 1_795_320_258;
const spiffeId = parseSpiffeId("spiffe://example.org/w");

const authorityOf = (keyId: string, key: Pick<LocalKey, "publicKey">): TokenAuthority => ({
  keyId,
  publicKey: exportPublicKeyInfo(key.publicKey),
  expiresAt: 0,
  tainted: false,
});

/** What an agent does with its bundles. */
const findIn =
  (...bundles: readonly Pick<TrustBundle, "trustDomain" | "jwtAuthorities">[]): FindTokenAuthority =>
  (trustDomain, keyId) => {
    const bundle = bundles.find((one) => one.trustDomain === trustDomain);
    return bundle ? bundle.jwtAuthorities.find((authority) => authority.keyId === keyId) : null;
  };

const bundleOf = (trustDomain: TrustDomain, ...jwtAuthorities: readonly TokenAuthority[]) => ({
  trustDomain,
  jwtAuthorities,
});

const td = parseTrustDomain("example.org");

async function outcome(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "accepted";
  } catch (error) {
    if (error instanceof SpireError && error.code === "INVALID_ARGUMENT") return error.message;
    throw error;
  }
}

describe("tokens recorded from SPIRE", () => {
  interface Call {
    readonly name: string;
    readonly request: { readonly audience: string; readonly svid: string };
    readonly message: string;
    readonly response: { readonly claims: object; readonly spiffeId: string } | null;
  }
  const calls: Call[] = JSON.parse(readGolden("errors/agent-validate-jwt-svid.json"));
  const own = parseSpiffeBundle(td, readGolden("x509/bundle.spiffe.json"));
  const other = bundleOf(parseTrustDomain("other.test"));

  // The API itself answers for a missing audience or token.
  test.each(calls.filter(({ request }) => request.audience !== "" && request.svid !== ""))(
    "$name is judged and answered as there",
    async ({ request, message, response }) => {
      const work = () => verifyJwtSvid(request.svid, findIn(own, other), request.audience, now);
      if (!response) return expect(await outcome(work)).toBe(message);
      const verified = await work();
      expect<string>(verified.spiffeId).toBe(response.spiffeId);
      expect(verified.claims).toEqual({ ...response.claims });
    },
  );
});

describe("a signed token", () => {
  interface Recorded {
    readonly headerRaw: string;
    readonly claimsRaw: string;
    readonly claims: { aud: string[]; exp: number; iat: number; sub: string; jti?: string };
    readonly header: { kid: string };
  }
  const recorded: Record<string, Recorded> = JSON.parse(readGolden("x509/jwt-svids.json"));

  test.each(Object.entries(recorded))(
    "has SPIRE's header and claims: %s",
    async (_, { headerRaw, claimsRaw, claims, header }) => {
      const token = await signJwtSvid({
        key: await generateKey("ec-p256"),
        keyId: header.kid,
        spiffeId: parseSpiffeId(claims.sub),
        audience: claims.aud,
        issuedAt: claims.iat,
        expiresAt: claims.exp,
        ...(claims.jti ? { jti: claims.jti } : {}),
      });
      const [head = "", body = ""] = token
        .split(".")
        .map((part) => Buffer.from(part, "base64url").toString());
      expect(head).toBe(headerRaw);
      expect(body).toBe(claimsRaw);
    },
  );

  const parameters = async (type: KeyType) => ({
    key: await generateKey(type),
    keyId: "kid",
    spiffeId,
    audience: ["a", "", "<b> & c"],
    issuedAt: now,
    expiresAt: now + 300,
    issuer: "https://issuer.test",
    jti: createTokenId(),
  });

  const algorithms: Record<KeyType, string> = {
    "ec-p256": "ES256",
    "ec-p384": "ES384",
    "rsa-2048": "RS256",
    "rsa-4096": "RS256",
  };

  test.each([...keyTypes])("by a key of type %s is valid to jose and to us", async (type) => {
    const given = await parameters(type);
    const token = await signJwtSvid(given);
    const options = { audience: "a", issuer: "https://issuer.test", currentDate: new Date(now * 1000) };
    const { payload, protectedHeader } = await jose.jwtVerify(token, given.key.publicKey, options);
    expect(protectedHeader).toEqual({ alg: algorithms[type], kid: "kid", typ: "JWT" });
    const claims = {
      aud: ["a", "<b> & c"],
      exp: now + 300,
      iat: now,
      iss: "https://issuer.test",
      jti: given.jti,
      sub: "spiffe://example.org/w",
    };
    expect(payload).toEqual(claims);
    const find = findIn(bundleOf(td, authorityOf("kid", given.key)));
    expect(await verifyJwtSvid(token, find, "<b> & c", now)).toEqual({
      spiffeId,
      claims,
      audience: claims.aud,
      keyId: "kid",
      expiresAt: now + 300,
    });
    expect(decodeJwtSvid(token)).toEqual({
      header: { alg: algorithms[type], kid: "kid", typ: "JWT" },
      claims,
    });
  });

  test("escapes in JSON what Go escapes", async () => {
    const token = await signJwtSvid(await parameters("ec-p256"));
    const claims = Buffer.from(token.split(".")[1] ?? "", "base64url").toString();
    expect(claims).toContain(String.raw`"\u003cb\u003e \u0026 c"`);
  });

  test.each([[[]], [[""]]])("needs an audience: %j", async (audience: string[]) => {
    const given = { ...(await parameters("ec-p256")), audience };
    expect(await outcome(() => signJwtSvid(given))).toBe("invalid JWT-SVID audience: cannot be empty");
  });

  test("may have an ID of 16 random bytes", () => {
    const [one, other] = [createTokenId(), createTokenId()];
    expect(one).toMatch(/^[A-Za-z0-9_-]{22}$/);
    expect(one).not.toBe(other);
  });
});

describe("a token that another library signed", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pairOf = (alg: string) => {
    if (alg.startsWith("ES")) {
      const namedCurve = { ES256: "P-256", ES384: "P-384", ES512: "P-521" }[alg] ?? "";
      return generateKeyPairSync("ec", { namedCurve });
    }
    return rsa;
  };

  test.each(["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])(
    "with %s is accepted, and refused for another key",
    async (alg) => {
      const { privateKey, publicKey } = pairOf(alg);
      const token = await new jose.SignJWT({})
        .setProtectedHeader({ alg, kid: "k" })
        .setSubject(spiffeId)
        .setAudience("a")
        .setExpirationTime(now + 10)
        .sign(privateKey);
      const find = findIn(bundleOf(td, authorityOf("k", { publicKey })));
      expect((await verifyJwtSvid(token, find, "a", now)).audience).toEqual(["a"]);
      const strangers = [
        await generateKey("ec-p256"),
        await generateKey("ec-p384"),
        { publicKey: generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey },
        { publicKey: generateKeyPairSync("ed25519").publicKey },
      ];
      for (const stranger of strangers) {
        const wrong = findIn(bundleOf(td, authorityOf("k", stranger)));
        expect(await outcome(() => verifyJwtSvid(token, wrong, "a", now))).toBe(
          "go-jose/go-jose: error in cryptographic primitive",
        );
      }
    },
  );
});

describe("a token is refused", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const find = findIn(bundleOf(td, authorityOf("k", { publicKey })));
  const encodePart = (part: unknown) =>
    Buffer.from(typeof part === "string" ? part : JSON.stringify(part)).toString("base64url");
  const tokenOf = (header: unknown, claims: unknown) => {
    const signed = `${encodePart(header)}.${encodePart(claims)}`;
    const key = { key: privateKey, dsaEncoding: "ieee-p1363" } as const;
    return `${signed}.${sign("sha256", Buffer.from(signed), key).toString("base64url")}`;
  };
  const header = { alg: "ES256", kid: "k" };
  const claims = { sub: spiffeId, aud: "a", exp: now };

  test.each([
    ["header", "{", claims, "unable to parse JWT token: header is not JSON"],
    ["header", "[]", claims, "unable to parse JWT token: header is not a JSON object"],
    ["claims", header, "no", "unable to parse JWT token: payload is not JSON"],
    ["claims", header, "null", "unable to parse JWT token: payload is not a JSON object"],
    ["subject", header, { ...claims, sub: 1 }, "token has a subject claim that is no text"],
    [
      "audience",
      header,
      { ...claims, aud: { a: 1 } },
      "token has an audience claim that is no list of texts",
    ],
    [
      "audience",
      header,
      { ...claims, aud: ["a", 1] },
      "token has an audience claim that is no list of texts",
    ],
    ["expiry", header, { ...claims, exp: null }, "token missing exp claim"],
    ["nothing", header, claims, "accepted"],
  ])("for a broken %s", async (_, head, body, message) => {
    expect(await outcome(() => verifyJwtSvid(tokenOf(head, body), find, "a", now))).toBe(message);
  });

  test("with a second longer than the leeway after its end", async () => {
    const token = tokenOf(header, claims);
    expect(await outcome(() => verifyJwtSvid(token, find, "a", now + 60))).toBe("accepted");
    expect(await outcome(() => verifyJwtSvid(token, find, "a", now + 61))).toBe("token has expired");
  });

  test("when its algorithm is the name of something every object has", async () => {
    const token = tokenOf({ ...header, alg: "constructor" }, claims);
    expect(await outcome(() => verifyJwtSvid(token, find, "a", now))).toStartWith(
      'unable to parse JWT token: unexpected signature algorithm "constructor"; expected ["ES256" "ES384"',
    );
  });
});
