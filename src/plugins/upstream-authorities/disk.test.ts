import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { failureOf } from "../../../test/server/failure.ts";
import {
  type CaFiles,
  createCaFiles,
  keyKinds,
  makeIntermediate,
  makeLeaf,
  makeRoot,
  type TestCa,
} from "../../../test/upstream/ca-files.ts";
import { createManualClock, unixSeconds } from "../../core/clock.ts";
import { generateKey } from "../../core/keys.ts";
import { type Logger, nullLogger } from "../../core/log.ts";
import { parseTrustDomain, trustDomainId } from "../../core/spiffe-id.ts";
import { parseCertificate } from "../../core/x509/certificate.ts";
import { createCertificateRequest } from "../../core/x509/csr.ts";
import { formatSubject } from "../../core/x509/name.ts";
import { verifiedChains } from "../../core/x509/verify.ts";
import { createDiskUpstream, type DiskUpstreamOptions } from "./disk.ts";

const trustDomain = parseTrustDomain("example.org");
const clock = createManualClock(1_800_000_000_000);
const now = unixSeconds(clock);
const hour = 3_600;

let files: CaFiles;
let root: TestCa;
beforeEach(async () => {
  files = createCaFiles();
  root = await makeRoot(now);
});
afterEach(() => files[Symbol.dispose]());

function open(overrides: Partial<DiskUpstreamOptions> = {}) {
  const { certFilePath, keyFilePath, bundleFilePath } = files;
  const paths = { certFilePath, keyFilePath, bundleFilePath };
  return createDiskUpstream({ ...paths, trustDomain, clock, log: nullLogger, ...overrides });
}

/** Without bundle_file_path. */
function openAlone() {
  const { certFilePath, keyFilePath } = files;
  return createDiskUpstream({ certFilePath, keyFilePath, trustDomain, clock, log: nullLogger });
}

const csr = async (uri = trustDomainId(trustDomain)) =>
  createCertificateRequest({ key: await generateKey("ec-p256"), uri });

describe("a CA signed by files", () => {
  test.each(Object.entries(keyKinds))("verifies when the key is %s", async (_, makeKey) => {
    const intermediate = await makeIntermediate(root, now, { key: makeKey() });
    files.write({ chain: [intermediate], bundle: [root] });
    const { chain, roots } = await (await open()).mint(await csr(), hour);
    const [ca, ...intermediates] = chain.map(parseCertificate);
    if (!ca) throw new Error("no certificate");
    const options = { intermediates, roots: roots.map(({ der }) => parseCertificate(der)), nowSeconds: now };
    expect(verifiedChains(ca, options)).toHaveLength(1);
  });

  test.each([
    ["SEC 1", "P-256", "sec1"],
    ["PKCS #1", "RSA 2048", "pkcs1"],
    ["PKCS #8", "P-384", "pkcs8"],
  ] as const)("takes a key in %s", async (_, kind, type) => {
    const key = keyKinds[kind]();
    const pem = key.export({ type, format: "pem" }).toString();
    const parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    const ca = await makeIntermediate(root, now, { key });
    files.write({ chain: [ca], key: type === "sec1" ? parameters + pem : pem, bundle: [root] });
    expect((await (await open()).mint(await csr(), hour)).chain).toHaveLength(2);
  });

  test("comes with every certificate of the chain, and ends with the CA above it", async () => {
    const upper = await makeIntermediate(root, now, { name: "upper" });
    const lower = await makeIntermediate(upper, now, { name: "lower", ttlSeconds: hour });
    files.write({ chain: [lower, upper], bundle: [root] });
    const { chain, roots } = await (await open()).mint(await csr(), 2 * hour);
    const parsed = chain.map(parseCertificate);
    expect(parsed.slice(1).map(({ subjectDer }) => formatSubject(subjectDer))).toEqual([
      "CN=lower,O=Test",
      "CN=upper,O=Test",
    ]);
    expect(parsed[0]?.notAfter).toBe(now + hour);
    expect(roots.map(({ der }) => Buffer.from(der))).toEqual([Buffer.from(root.der)]);
  });

  test("comes alone when the file's CA is the root", async () => {
    files.write({ chain: [root], bundle: [] });
    const { chain, roots } = await (await openAlone()).mint(await csr(), hour);
    expect(chain).toHaveLength(1);
    expect(roots).toHaveLength(1);
  });

  test("lives for an hour when no lifetime is asked for", async () => {
    files.write({ chain: [root], bundle: [root] });
    const { chain } = await (await open()).mint(await csr(), 0);
    expect(parseCertificate(chain[0] ?? new Uint8Array()).notAfter).toBe(now + hour);
  });

  test("is refused to a request for another trust domain", async () => {
    files.write({ chain: [root], bundle: [root] });
    const upstream = await open();
    const failure = await failureOf(
      upstream.mint(await csr(trustDomainId(parseTrustDomain("other.test"))), 1),
    );
    expect(failure.message).toBe('CSR must have "spiffe://example.org" as its only URI SAN');
  });
});

describe("files that change", () => {
  test("count from the next CA on", async () => {
    files.write({ chain: [root], bundle: [root] });
    const upstream = await open();
    const next = await makeRoot(now);
    files.write({ chain: [next], bundle: [root, next] });
    const { chain, roots } = await upstream.mint(await csr(), hour);
    const { authorityKeyId } = parseCertificate(chain[0] ?? new Uint8Array());
    expect(authorityKeyId).toEqual(parseCertificate(next.der).subjectKeyId ?? new Uint8Array());
    expect(roots).toHaveLength(2);
  });

  test("that don't hold leave those read last in use, and that is logged", async () => {
    files.write({ chain: [root], bundle: [root] });
    const warnings: unknown[] = [];
    const log: Logger = { ...nullLogger, warn: (message, fields) => warnings.push([message, fields]) };
    const upstream = await open({ log });
    writeFileSync(files.keyFilePath, "half a key");
    expect((await upstream.mint(await csr(), hour)).chain).toHaveLength(2);
    expect(warnings).toHaveLength(1);
    expect(Bun.inspect(warnings)).toContain(files.keyFilePath);
  });
});

describe("at the start", () => {
  const refusals: readonly {
    readonly name: string;
    readonly prepare: () => Promise<void>;
    readonly says: readonly string[];
  }[] = [
    {
      name: "a missing key",
      prepare: async () => files.write({ chain: [root], key: "", bundle: [root] }),
      says: ["unable to load upstream CA key", "ca.key", "PRIVATE KEY"],
    },
    {
      name: "a key that is encrypted",
      prepare: async () => {
        const key = keyKinds["P-256"]().export({
          type: "pkcs8",
          format: "pem",
          cipher: "aes-256-cbc",
          passphrase: "secret",
        });
        files.write({ chain: [root], key: key.toString(), bundle: [root] });
      },
      says: ["unable to load upstream CA key", "ca.key", "encrypted", "without a passphrase"],
    },
    {
      name: "a key that is damaged",
      prepare: async () =>
        files.write({ chain: [root], key: root.key.replace(/\nM.{20}/, "\nMAAA"), bundle: [root] }),
      says: ["unable to load upstream CA key", "the private key is damaged"],
    },
    {
      name: "two keys",
      prepare: async () => files.write({ chain: [root], key: root.key + root.key, bundle: [root] }),
      says: ["more than one private key"],
    },
    {
      name: "a certificate file without certificates",
      prepare: async () => files.write({ chain: "nothing", key: root.key, bundle: [root] }),
      says: ["unable to load upstream CA cert", "ca.crt", "no PEM blocks"],
    },
    {
      name: "the key in the certificate's place",
      prepare: async () => files.write({ chain: root.key, key: root.key, bundle: [root] }),
      says: ["unable to load upstream CA cert", 'got "PRIVATE KEY"'],
    },
    {
      name: "a bundle without certificates",
      prepare: async () => files.write({ chain: [root], bundle: "" }),
      says: ["unable to load upstream CA bundle", "bundle.crt"],
    },
    {
      name: "a key of another certificate",
      prepare: async () => files.write({ chain: [root], key: (await makeRoot(now)).key, bundle: [root] }),
      says: ["certificate and private key do not match", "ca.key", "ca.crt"],
    },
    {
      name: "a certificate that is no CA",
      prepare: async () => {
        const leaf = await makeLeaf(now);
        files.write({ chain: [leaf], bundle: [leaf] });
      },
      says: ["ca.crt", "is not a CA"],
    },
    {
      name: "a chain that doesn't lead to the bundle",
      prepare: async () => {
        const other = await makeRoot(now);
        files.write({ chain: [await makeIntermediate(root, now)], bundle: [other] });
      },
      says: ["cannot be validated with the provided bundle", "bundle.crt"],
    },
    {
      name: "a chain with a certificate missing",
      prepare: async () => {
        const upper = await makeIntermediate(root, now);
        files.write({ chain: [await makeIntermediate(upper, now)], bundle: [root] });
      },
      says: ["cannot be validated with the provided bundle"],
    },
    {
      name: "a CA that has expired",
      prepare: async () => {
        const old = await makeRoot(now - 2 * hour, hour);
        files.write({ chain: [old], bundle: [old] });
      },
      says: ["cannot be validated", "expired at 2027-01-15T07:00:00Z"],
    },
  ];

  test.each(refusals)("$name is refused, in one line that names the file", async ({ prepare, says }) => {
    await prepare();
    const failure = await failureOf(open());
    expect(failure.code).toBe("INVALID_ARGUMENT");
    expect(failure.message).not.toContain("\n");
    for (const part of says) expect(failure.message).toContain(part);
    expect(Bun.inspect(failure)).not.toContain(root.key.slice(40, 80));
  });

  test("a file that isn't there is refused with the reason", async () => {
    files.write({ chain: [root], bundle: [root] });
    const failure = await failureOf(open({ keyFilePath: `${files.directory}/none.key` }));
    expect(failure.message).toContain("none.key");
    expect(failure.message).toContain("ENOENT");
  });

  test("a chain without a bundle is refused", async () => {
    files.write({ chain: [await makeIntermediate(root, now), root], bundle: [] });
    const failure = await failureOf(openAlone());
    expect(failure.message).toContain(
      "with no bundle_file_path configured only self-signed CAs are supported",
    );
  });
});
