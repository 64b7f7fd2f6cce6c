import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import * as jose from "jose";
import { SpireError } from "./errors.ts";
import { exportPublicKeyInfo } from "./keys.ts";
import { parseTrustDomain } from "./spiffe-id.ts";
import {
  concatDer,
  deserializeBundle,
  emptyBundle,
  equalBundles,
  formatJwks,
  formatPemBundle,
  formatSpiffeBundle,
  mergeBundles,
  parsePemBundle,
  parseSpiffeBundle,
  serializeBundle,
  type TokenAuthority,
  type TrustBundle,
} from "./trust-bundle.ts";

const readGolden = (name: string) =>
  readFileSync(new URL(`../../test/golden/x509/${name}`, import.meta.url), "utf8");

const td = parseTrustDomain("example.org");
const pem = readGolden("bundle.pem");
const spiffe = readGolden("bundle.spiffe.json");
const golden = parseSpiffeBundle(td, spiffe);

const keyOf = (publicKey: TokenAuthority["publicKey"], keyId: string): TokenAuthority => ({
  keyId,
  publicKey,
  expiresAt: 0,
  tainted: false,
});
const rsa = exportPublicKeyInfo(generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey);
const p384 = exportPublicKeyInfo(generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey);

describe("a bundle as PEM", () => {
  test("is written as SPIRE writes it", () => {
    expect(formatPemBundle(parsePemBundle(td, pem))).toBe(pem);
    expect(formatPemBundle(golden)).toBe(pem);
  });

  test("has nothing but X.509 authorities", () => {
    const bundle = parsePemBundle(td, pem);
    expect(bundle).toEqual({ ...emptyBundle(td), x509Authorities: golden.x509Authorities });
    expect(concatDer(bundle)).toEqual(Buffer.from(bundle.x509Authorities[0]?.der ?? []));
  });
});

describe("a SPIFFE bundle", () => {
  test("is written as SPIRE writes it", () => {
    expect(`${formatSpiffeBundle(golden)}\n`).toBe(spiffe);
  });

  test("is answered by the bundle endpoint as SPIRE answers", () => {
    const { raw } = JSON.parse(readGolden("bundle-endpoint-response.json"));
    const body = raw.slice(raw.indexOf("{"));
    const bundle = parseSpiffeBundle(td, body);
    expect(bundle.refreshHint).toBe(300);
    expect(bundle.sequenceNumber).toBe(5);
    expect(formatSpiffeBundle(bundle)).toBe(body);
    expect(equalBundles(bundle, { ...golden, refreshHint: 300 })).toBe(true);
  });

  test("keeps keys of all kinds", () => {
    const bundle: TrustBundle = {
      ...golden,
      jwtAuthorities: [keyOf(rsa, "r"), keyOf(p384, "p")],
      witAuthorities: [keyOf(rsa, "w")],
    };
    const text = formatSpiffeBundle(bundle);
    expect(parseSpiffeBundle(td, text)).toEqual(bundle);
    const keys = JSON.parse(text)
      .keys.slice(1)
      .map((key: object) => Object.keys(key));
    expect(keys).toEqual([
      ["use", "kty", "kid", "n", "e"],
      ["use", "kty", "kid", "crv", "x", "y"],
      ["use", "kty", "kid", "n", "e"],
    ]);
  });

  test("has no field for what is zero", () => {
    expect(formatSpiffeBundle(emptyBundle(td))).toBe('{\n    "keys": []\n}');
  });

  test("may have keys of unknown uses and types, which are skipped (standard, 4.2)", () => {
    const document = JSON.parse(spiffe);
    const [first, ...others] = document.keys;
    const { use: _, ...withoutUse } = first;
    const keys = [{ ...first, use: "bogus" }, withoutUse, { ...first, kty: "XYZ" }, null, 7, ...others];
    const bundle = parseSpiffeBundle(td, JSON.stringify({ ...document, keys }));
    expect(bundle).toEqual({ ...golden, x509Authorities: [] });
  });

  test("may say that there are no keys any more", () => {
    expect(parseSpiffeBundle(td, '{"keys":[]}')).toEqual(emptyBundle(td));
  });

  test.each([
    ["garbage", "spiffebundle: unable to parse JWKS: "],
    ["[]", "spiffebundle: unable to parse JWKS: it is not an object"],
    ["{}", "spiffebundle: no authorities found"],
    ['{"keys":null}', "spiffebundle: no authorities found"],
    ['{"keys":{}}', 'spiffebundle: unable to parse JWKS: "keys" is not a list'],
    ['{"keys":[],"spiffe_sequence":"1"}', 'spiffebundle: "spiffe_sequence" is not a count'],
    ['{"keys":[],"spiffe_refresh_hint":-1}', 'spiffebundle: "spiffe_refresh_hint" is not a count'],
    [
      '{"keys":[{"use":"x509-svid","kty":"EC"}]}',
      "spiffebundle: expected a single certificate in an x509-svid entry; got 0",
    ],
    [
      '{"keys":[{"use":"x509-svid","kty":"EC","x5c":["a","b"]}]}',
      "spiffebundle: expected a single certificate in an x509-svid entry; got 2",
    ],
    [
      '{"keys":[{"use":"x509-svid","kty":"EC","x5c":["AAAA"]}]}',
      "spiffebundle: invalid certificate in an x509-svid entry",
    ],
    ['{"keys":[{"use":"jwt-svid","kty":"EC"}]}', "spiffebundle: keyID cannot be empty"],
    ['{"keys":[{"use":"jwt-svid","kty":"EC","kid":"k"}]}', "spiffebundle: malformed or unsupported key"],
  ])("%s is refused", (text, message) => {
    expect(() => parseSpiffeBundle(td, text)).toThrow(message);
  });
});

describe("the key set for workloads", () => {
  test("is a plain JWK set that jose takes, in SPIRE's form", async () => {
    const bundle = {
      ...golden,
      jwtAuthorities: [...golden.jwtAuthorities, keyOf(rsa, "r"), keyOf(p384, "p")],
    };
    const text = formatJwks(bundle);
    const set = JSON.parse(text);
    expect(text).toBe(JSON.stringify(set, undefined, 4));
    expect(Object.keys(set.keys[0])).toEqual(["kty", "kid", "crv", "x", "y"]);
    expect(set.keys.map(({ kid }: { kid: string }) => kid)).toEqual(
      bundle.jwtAuthorities.map(({ keyId }) => keyId),
    );
    const algorithms: Record<string, string> = { "P-256": "ES256", "P-384": "ES384" };
    for (const key of set.keys) {
      const imported = await jose.importJWK(key, algorithms[key.crv] ?? "RS256");
      expect(imported).not.toBeInstanceOf(Uint8Array);
    }
  });

  test("is empty without JWT authorities", () => {
    expect(formatJwks(emptyBundle(td))).toBe('{\n    "keys": []\n}');
  });
});

const tokenAuthorities = fc.uniqueArray(
  fc.record({
    keyId: fc.string({ minLength: 1, maxLength: 5 }),
    publicKey: fc.constantFrom(rsa, p384),
    expiresAt: fc.nat(),
    tainted: fc.boolean(),
  }),
  { selector: ({ keyId }) => keyId, maxLength: 4 },
);
const bundles: fc.Arbitrary<TrustBundle> = fc.record({
  trustDomain: fc.constant(td),
  x509Authorities: fc.uniqueArray(
    fc.record({
      der: fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes)),
      tainted: fc.boolean(),
    }),
    { selector: ({ der }) => der.toString("hex"), maxLength: 4 },
  ),
  jwtAuthorities: tokenAuthorities,
  witAuthorities: tokenAuthorities,
  refreshHint: fc.nat(),
  sequenceNumber: fc.nat(),
});

describe("a stored bundle", () => {
  test("comes back whole", () => {
    fc.assert(
      fc.property(bundles, (bundle) => {
        expect(deserializeBundle(serializeBundle(bundle))).toEqual(bundle);
      }),
    );
  });

  test.each(["", "{}", "[]", "null", '{"trust_domain":"A"}', '{"trust_domain":"a","x509_authorities":[1]}'])(
    "that is damaged is told of: %p",
    (text) => {
      expect(() => deserializeBundle(text)).toThrow(/^stored bundle is damaged: /);
      expect(() => deserializeBundle(text)).toThrow(SpireError);
    },
  );
});

describe("two bundles", () => {
  test("are equal whatever the order of their authorities, and unequal by anything else", () => {
    fc.assert(
      fc.property(bundles, (bundle) => {
        const reversed = {
          ...bundle,
          x509Authorities: bundle.x509Authorities.toReversed(),
          jwtAuthorities: bundle.jwtAuthorities.toReversed(),
          witAuthorities: bundle.witAuthorities.toReversed(),
        };
        expect(equalBundles(bundle, reversed)).toBe(true);
        expect(equalBundles(bundle, { ...reversed, sequenceNumber: bundle.sequenceNumber + 1 })).toBe(false);
        const tainted = bundle.x509Authorities.map(({ der, tainted }) => ({ der, tainted: !tainted }));
        expect(equalBundles(bundle, { ...reversed, x509Authorities: tainted })).toBe(tainted.length === 0);
      }),
    );
  });

  test("merge to the authorities of both, each once, the first's own staying as they are", () => {
    fc.assert(
      fc.property(bundles, bundles, (a, b) => {
        const merged = mergeBundles(a, b);
        expect(mergeBundles(merged, b)).toBe(merged);
        expect(mergeBundles(a, a)).toBe(a);
        const ids = ({ x509Authorities, jwtAuthorities, witAuthorities }: TrustBundle) => [
          ...x509Authorities.map(({ der }) => `x509 ${Buffer.from(der).toString("hex")}`),
          ...jwtAuthorities.map(({ keyId }) => `jwt ${keyId}`),
          ...witAuthorities.map(({ keyId }) => `wit ${keyId}`),
        ];
        expect(new Set(ids(merged))).toEqual(new Set([...ids(a), ...ids(b)]));
        expect(merged.x509Authorities.slice(0, a.x509Authorities.length)).toEqual([...a.x509Authorities]);
        expect(merged.sequenceNumber).toBe(a.sequenceNumber);
      }),
    );
  });
});
