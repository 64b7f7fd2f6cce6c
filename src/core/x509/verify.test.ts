import "reflect-metadata";
import { describe, expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { SpireError } from "../errors.ts";
import { parseTrustDomain, type TrustDomain } from "../spiffe-id.ts";
import type { X509Authority } from "../trust-bundle.ts";
import { parseCertificate } from "./certificate.ts";
import { encode, tags } from "./der.ts";
import { encodeAlternativeNames } from "./extensions.ts";
import { parseSvidId, verifySvidChain } from "./verify.ts";

const td = parseTrustDomain("example.org");
const now = 1_795_319_955;

type Algorithm = { name: string; namedCurve?: string; hash?: string; [field: string]: unknown };

const algorithms: Record<string, Algorithm> = {
  "P-256": { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  "P-384": { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" },
  "P-521": { name: "ECDSA", namedCurve: "P-521", hash: "SHA-512" },
  RSA: rsa("RSASSA-PKCS1-v1_5", "SHA-256"),
  "RSA with SHA-512": rsa("RSASSA-PKCS1-v1_5", "SHA-512"),
  "RSA-PSS": { ...rsa("RSA-PSS", "SHA-256"), saltLength: 32 },
  Ed25519: { name: "Ed25519" },
};

function rsa(name: string, hash: string): Algorithm {
  return { name, hash, modulusLength: 2048, publicExponent: Uint8Array.of(1, 0, 1) };
}

const p256: Algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

async function makeKeys(algorithm: Algorithm): Promise<CryptoKeyPair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  if (!("privateKey" in keys)) throw new Error("no key pair was made");
  return keys;
}

interface Made {
  readonly der: Uint8Array;
  readonly keys: CryptoKeyPair;
  readonly algorithm: Algorithm;
  readonly name: string;
}

interface Request {
  readonly issuer?: Made;
  readonly keys?: CryptoKeyPair;
  readonly algorithm?: Algorithm;
  readonly name?: string;
  /** A CA unless false; a number is its path length. */
  readonly ca?: boolean | number;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly usage?: number;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly extensions?: readonly x509.Extension[];
}

const { KeyUsageFlags } = x509;
let names = 0;

async function make(request: Request = {}): Promise<Made> {
  names += 1;
  const { issuer, algorithm = p256, ca = true, name = `CN=${names}`, dnsNames = [] } = request;
  const keys = request.keys ?? (await makeKeys(algorithm));
  const { uris = ca === false ? ["spiffe://example.org/w"] : ["spiffe://example.org"] } = request;
  const usage = ca === false ? KeyUsageFlags.digitalSignature : KeyUsageFlags.keyCertSign;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: "01",
    subject: name,
    issuer: issuer?.name ?? name,
    notBefore: new Date((request.notBefore ?? now - 10) * 1000),
    notAfter: new Date((request.notAfter ?? now + 3_600) * 1000),
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    signingAlgorithm: issuer?.algorithm ?? algorithm,
    extensions: [
      new x509.KeyUsagesExtension(request.usage ?? usage, true),
      new x509.BasicConstraintsExtension(ca !== false, typeof ca === "number" ? ca : undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ...(uris.length + dnsNames.length === 0
        ? []
        : [new x509.Extension("2.5.29.17", false, encodeAlternativeNames(dnsNames, uris))]),
      ...(request.extensions ?? []),
    ],
  });
  return { der: new Uint8Array(certificate.rawData), keys, algorithm, name };
}

const leaf = (issuer: Made, request: Request = {}) => make({ ca: false, ...request, issuer });

const bundleOf = (
  ...roots: readonly Made[]
): { trustDomain: TrustDomain; x509Authorities: X509Authority[] } => ({
  trustDomain: td,
  x509Authorities: roots.map(({ der }) => ({ der, tainted: false })),
});

const ders = (...chain: readonly Made[]) => chain.map(({ der }) => der);

function outcome(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (error instanceof SpireError && error.code === "UNAUTHENTICATED") return error.message;
    throw error;
  }
}

const verifyOutcome = (chain: readonly Made[], roots: readonly Made[], at = now) =>
  outcome(() => verifySvidChain(ders(...chain), bundleOf(...roots), at));

describe("a chain is accepted", () => {
  test("from a leaf to its root, and says whose it is", async () => {
    const root = await make();
    const verified = verifySvidChain(ders(await leaf(root)), bundleOf(root), now);
    expect<string>(verified.id).toBe("spiffe://example.org/w");
    expect(verified.certificate.isCa).toBe(false);
  });

  test.each(Object.keys(algorithms))("with signatures by %s", async (name) => {
    const algorithm = algorithms[name] ?? p256;
    const root = await make({ algorithm });
    const intermediate = await make({ issuer: root, algorithm });
    const end = await leaf(intermediate, { algorithm });
    expect(verifyOutcome([end, intermediate], [root])).toBe("accepted");
    const stranger = await make({ algorithm, name: root.name });
    expect(verifyOutcome([end, intermediate], [stranger])).toBe("certificate has an invalid signature");
  });

  test("through intermediates in any order, with the root or strangers among them", async () => {
    const root = await make();
    const first = await make({ issuer: root });
    const second = await make({ issuer: first });
    const end = await leaf(second);
    expect(verifyOutcome([end, second, first], [root])).toBe("accepted");
    expect(verifyOutcome([end, first, second], [root])).toBe("accepted");
    expect(verifyOutcome([end, await make(), root, first, second], [await make(), root])).toBe("accepted");
  });

  test("to whichever of several roots with one subject, or one subject and key, fits", async () => {
    const wrongKey = await make({ name: "CN=twin" });
    const root = await make({ name: "CN=twin" });
    const end = await leaf(root);
    expect(verifyOutcome([end], [wrongKey, root])).toBe("accepted");
    const expired = await make({
      name: "CN=twin",
      keys: root.keys,
      notBefore: now - 100,
      notAfter: now - 50,
    });
    expect(verifyOutcome([end], [expired, wrongKey, root])).toBe("accepted");
  });

  test("to an intermediate that is itself an authority of the bundle", async () => {
    const intermediate = await make({ issuer: await make() });
    expect(verifyOutcome([await leaf(intermediate)], [intermediate])).toBe("accepted");
  });

  test("past an authority of the bundle that can't be read", async () => {
    const root = await make();
    const end = await leaf(root);
    const bundle = bundleOf(root);
    const broken = { der: Buffer.from("garbage"), tainted: false };
    const x509Authorities = [broken, ...bundle.x509Authorities];
    expect(outcome(() => verifySvidChain(ders(end), { ...bundle, x509Authorities }, now))).toBe("accepted");
  });

  test("in the first and the last second of its validity, and in no other", async () => {
    const root = await make({ notBefore: now - 1_000, notAfter: now + 1_000 });
    const end = await leaf(root, { notBefore: now, notAfter: now + 10 });
    expect(verifyOutcome([end], [root], now)).toBe("accepted");
    expect(verifyOutcome([end], [root], now + 10)).toBe("accepted");
    expect(verifyOutcome([end], [root], now - 1)).toBe(
      "certificate is not valid before 2026-11-22T03:59:15Z",
    );
    expect(verifyOutcome([end], [root], now + 11)).toBe("certificate has expired at 2026-11-22T03:59:25Z");
  });
});

describe("a chain is refused", () => {
  test("when it is empty, garbage or too long", async () => {
    const root = await make();
    expect(verifyOutcome([], [root])).toBe("no certificate was presented");
    expect(outcome(() => verifySvidChain([Buffer.from("garbage")], bundleOf(root), now))).toBe(
      "certificate chain is malformed",
    );
    expect(
      verifyOutcome(
        Array.from({ length: 33 }, () => root),
        [root],
      ),
    ).toBe("certificate chain is longer than 32");
  });

  test("when no authority of the bundle signed it", async () => {
    const end = await leaf(await make());
    expect(verifyOutcome([end], [await make()])).toBe("certificate is signed by an unknown authority");
    expect(verifyOutcome([end], [])).toBe("certificate is signed by an unknown authority");
  });

  test("when the intermediate is missing, or was not signed by the root", async () => {
    const root = await make();
    const intermediate = await make({ issuer: root });
    const end = await leaf(intermediate);
    expect(verifyOutcome([end], [root])).toBe("certificate is signed by an unknown authority");
    const impostor = await make({ issuer: await make({ name: root.name }), name: intermediate.name });
    expect(verifyOutcome([await leaf(impostor), impostor], [root])).toBe(
      "certificate has an invalid signature",
    );
  });

  test.each([
    [[], "certificate contains no URI SAN"],
    [["spiffe://example.org/a", "spiffe://example.org/b"], "certificate contains more than one URI SAN"],
    [["spiffe://example.org/a", "https://example.org"], "certificate contains more than one URI SAN"],
    [["https://example.org/a"], "certificate contains an invalid SPIFFE ID: scheme is missing or invalid"],
    [["spiffe://example.org"], "leaf certificate has a SPIFFE ID without a path"],
    [["spiffe://other.test/a"], '"spiffe://other.test/a" does not belong to trust domain "example.org"'],
  ])("when its URI names are %p", async (uris, reason) => {
    const root = await make();
    expect(verifyOutcome([await leaf(root, { uris })], [root])).toBe(reason);
  });

  test("when the leaf is a CA or may sign", async () => {
    const root = await make();
    const uris = ["spiffe://example.org/w"];
    expect(verifyOutcome([await make({ issuer: root, uris })], [root])).toBe(
      "leaf certificate has the CA flag set",
    );
    for (const flag of ["keyCertSign", "cRLSign"] as const) {
      const end = await leaf(root, { usage: KeyUsageFlags.digitalSignature | KeyUsageFlags[flag] });
      expect(verifyOutcome([end], [root])).toBe(`leaf certificate has key usage ${flag}`);
    }
  });

  test("when a leaf signed another leaf", async () => {
    const root = await make();
    const between = await leaf(root);
    const end = await leaf(between);
    expect(verifyOutcome([end, between], [root])).toBe("certificate is signed by one that is no CA");
  });

  test("when a CA lacks key usage keyCertSign", async () => {
    const root = await make({ usage: KeyUsageFlags.cRLSign });
    expect(verifyOutcome([await leaf(root)], [root])).toBe(
      "certificate is signed by a CA without key usage keyCertSign",
    );
  });

  test("when it is longer than a path length allows", async () => {
    const root = await make({ ca: 0 });
    expect(verifyOutcome([await leaf(root)], [root])).toBe("accepted");
    const intermediate = await make({ issuer: root });
    expect(verifyOutcome([await leaf(intermediate), intermediate], [root])).toBe(
      "certificate chain is longer than a CA's path length allows",
    );
  });

  test("when any certificate of it is out of time", async () => {
    const root = await make();
    const late = await make({ issuer: root, notBefore: now + 5 });
    expect(verifyOutcome([await leaf(late), late], [root])).toStartWith("certificate is not valid before");
    const old = await make({ notBefore: now - 10, notAfter: now - 5 });
    expect(verifyOutcome([await leaf(old)], [old])).toStartWith("certificate has expired at");
  });

  test("when a critical extension is unknown; an unknown one that isn't critical is no matter", async () => {
    const unknown = (critical: boolean) => new x509.Extension("1.2.3.4", critical, Uint8Array.of(5, 0));
    const root = await make();
    expect(verifyOutcome([await leaf(root, { extensions: [unknown(false)] })], [root])).toBe("accepted");
    const reason = "certificate has an unknown critical extension: 1.2.3.4";
    expect(verifyOutcome([await leaf(root, { extensions: [unknown(true)] })], [root])).toBe(reason);
    const strange = await make({ extensions: [unknown(true)] });
    expect(verifyOutcome([await leaf(strange)], [strange])).toBe(reason);
  });

  test("when a byte of its signed part or its signature is changed", async () => {
    const root = await make();
    const { der } = await leaf(root);
    for (let index = 0; index < der.length; index += 3) {
      const changed = Uint8Array.from(der);
      changed[index] = (changed[index] ?? 0) ^ 1;
      expect(outcome(() => verifySvidChain([changed], bundleOf(root), now))).not.toBe("accepted");
    }
  });

  test("with bounded work when its CAs all sign each other", async () => {
    const name = "CN=maze";
    const signers = await Promise.all(Array.from({ length: 6 }, () => make({ name })));
    const pairs = signers.flatMap((issuer) =>
      signers.filter((other) => other !== issuer).map(({ keys }) => ({ name, issuer, keys })),
    );
    const cas = await Promise.all(pairs.map(make));
    const [first = await make()] = signers;
    const end = await leaf(first);
    expect(verifyOutcome([end, ...cas], [await make()])).toBe("certificate chain needs too many checks");
  });

  test("when only a CA's certificates for itself lead on", async () => {
    const shared = { name: "CN=loop", keys: await makeKeys(p256) };
    const loop = await make(shared);
    const again = await make({ ...shared, issuer: loop });
    const end = await leaf(loop);
    expect(verifyOutcome([end, loop, again], [await make()])).toBe(
      "certificate is signed by an unknown authority",
    );
  });

  test("without verifying anything by a key that no authority of the bundle vouches for", async () => {
    const root = await make();
    const stranger = await make();
    const sameName = await make({ name: stranger.name });
    // By `sameName`'s key, which would tell if `stranger`'s were tried.
    const end = await leaf(sameName);
    expect(verifyOutcome([end, stranger], [root])).toBe("certificate is signed by an unknown authority");
  });
});

describe("name constraints", () => {
  const subtrees = (...bases: readonly [tag: number, text: string][]) =>
    bases.map(([tag, base]) => encode(tags.sequence, encode(tag, Buffer.from(base))));
  const uri = 0x86;
  const dns = 0x82;
  const directory = 0xa4;
  const constraints = (permitted: Buffer[], excluded: Buffer[]) =>
    new x509.Extension(
      "2.5.29.30",
      true,
      encode(
        tags.sequence,
        ...(permitted.length > 0 ? [encode(0xa0, ...permitted)] : []),
        ...(excluded.length > 0 ? [encode(0xa1, ...excluded)] : []),
      ),
    );

  async function constrained(
    permitted: Buffer[],
    excluded: Buffer[],
    request: Request = {},
  ): Promise<string> {
    const root = await make();
    const ca = await make({ issuer: root, uris: [], extensions: [constraints(permitted, excluded)] });
    return verifyOutcome([await leaf(ca, request), ca], [root]);
  }

  test("on URIs are held", async () => {
    expect(await constrained(subtrees([uri, "example.org"]), [])).toBe("accepted");
    expect(await constrained(subtrees([uri, "other.test"], [uri, "example.org"]), [])).toBe("accepted");
    const reason = `a CA's name constraints forbid "spiffe://example.org/w"`;
    expect(await constrained(subtrees([uri, "other.test"]), [])).toBe(reason);
    expect(await constrained(subtrees([uri, ".example.org"]), [])).toBe(reason);
    expect(await constrained([], subtrees([uri, "example.org"]))).toBe(reason);
    expect(await constrained([], subtrees([uri, ".org"]))).toBe(reason);
    expect(await constrained([], subtrees([uri, "other.test"]))).toBe("accepted");
  });

  test("on DNS names are held", async () => {
    const request = { dnsNames: ["a.b.test"] };
    expect(await constrained(subtrees([dns, "b.test"]), [], request)).toBe("accepted");
    expect(await constrained(subtrees([dns, ".b.test"]), [], request)).toBe("accepted");
    expect(await constrained(subtrees([dns, "b.test"]), [], { dnsNames: ["B.test"] })).toBe("accepted");
    const reason = `a CA's name constraints forbid "a.b.test"`;
    expect(await constrained(subtrees([dns, "c.test"]), [], request)).toBe(reason);
    expect(await constrained([], subtrees([dns, "test"]), request)).toBe(reason);
    expect(await constrained([], subtrees([dns, "xb.test"]), request)).toBe("accepted");
  });

  test("on names of another type are refused, as nobody checks them", async () => {
    expect(await constrained(subtrees([directory, ""]), [])).toBe(
      "certificate has an unknown critical extension: 2.5.29.30",
    );
  });
});

test("the SPIFFE ID of a CA is read, too", async () => {
  const { der } = await make();
  expect<string>(parseSvidId(parseCertificate(der))).toBe("spiffe://example.org");
});
