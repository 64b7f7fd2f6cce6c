/** Authorities in files, as a company's PKI would hand them out: chains of any length, keys of any kind. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { makeSpiffeId, parseTrustDomain, trustDomainId } from "../../src/core/spiffe-id.ts";
import { importCaKey } from "../../src/core/x509/ca-key.ts";
import { formatPemCertificates } from "../../src/core/x509/certificate.ts";
import {
  createIssuer,
  createIssuerOf,
  issueRequestedCa,
  issueSelfSignedCa,
  issueWorkloadSvid,
} from "../../src/core/x509/issue.ts";
import { encodeName } from "../../src/core/x509/name.ts";

const trustDomain = parseTrustDomain("example.org");
const year = 365 * 86_400;

/** A CA with its private key. */
export interface TestCa {
  readonly der: Uint8Array;
  /** PEM. */
  readonly key: string;
}

const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();

/** `nowSeconds`: unix time at which it begins to hold. */
export async function makeRoot(nowSeconds: number, ttlSeconds = year): Promise<TestCa> {
  const key = await generateKey("ec-p256");
  const { der } = await issueSelfSignedCa({ key, trustDomain, ttlSeconds }, nowSeconds);
  return { der, key: pemOf(key.privateKey) };
}

/** Key pairs that CAs have, by a name. */
export const keyKinds = {
  "P-256": () => generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey,
  "P-384": () => generateKeyPairSync("ec", { namedCurve: "secp384r1" }).privateKey,
  "P-521": () => generateKeyPairSync("ec", { namedCurve: "secp521r1" }).privateKey,
  "RSA 2048": () => generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey,
  "RSA 3072": () => generateKeyPairSync("rsa", { modulusLength: 3072 }).privateKey,
};

export interface IntermediateOptions {
  readonly name?: string;
  readonly key?: KeyObject;
  readonly ttlSeconds?: number;
}

/** A CA below another one. */
export async function makeIntermediate(
  parent: TestCa,
  nowSeconds: number,
  { name = "intermediate", key = keyKinds["P-256"](), ttlSeconds = year }: IntermediateOptions = {},
): Promise<TestCa> {
  const pem = pemOf(key);
  const request = {
    subjectDer: encodeName({ organization: ["Test"], commonName: [name] }),
    publicKeyInfo: importCaKey(pem).publicKeyInfo,
    uris: [trustDomainId(trustDomain)],
    ttlSeconds,
  };
  const issuer = createIssuerOf(importCaKey(parent.key), parent.der, []);
  const { der } = await issueRequestedCa(issuer, request, nowSeconds);
  return { der, key: pem };
}

/** A certificate that may not sign others, with its key. */
export async function makeLeaf(nowSeconds: number): Promise<TestCa> {
  const caKey = await generateKey("ec-p256");
  const ca = await issueSelfSignedCa({ key: caKey, trustDomain, ttlSeconds: year }, nowSeconds);
  const key = await generateKey("ec-p256");
  const request = {
    spiffeId: makeSpiffeId(trustDomain, "/leaf"),
    publicKeyInfo: exportPublicKeyInfo(key.publicKey),
    ttlSeconds: year,
    dnsNames: [],
  };
  const { der } = await issueWorkloadSvid(createIssuer(caKey, ca.der, []), request, nowSeconds);
  return { der, key: pemOf(key.privateKey) };
}

export interface CaFiles extends Disposable {
  readonly directory: string;
  readonly certFilePath: string;
  readonly keyFilePath: string;
  readonly bundleFilePath: string;
  /** Writes all three; a text is written as it is. */
  write(files: {
    readonly chain: readonly TestCa[] | string;
    readonly key?: string;
    readonly bundle: readonly TestCa[] | string;
  }): void;
}

const textOf = (part: readonly TestCa[] | string): string =>
  typeof part === "string" ? part : formatPemCertificates(part.map(({ der }) => der));

/** Three files in a folder of their own; nothing is in them before `write`. */
export function createCaFiles(): CaFiles {
  const directory = mkdtempSync(join(tmpdir(), "spire-upstream-"));
  const certFilePath = join(directory, "ca.crt");
  const keyFilePath = join(directory, "ca.key");
  const bundleFilePath = join(directory, "bundle.crt");
  return {
    directory,
    certFilePath,
    keyFilePath,
    bundleFilePath,
    write({ chain, key, bundle }) {
      writeFileSync(certFilePath, textOf(chain));
      writeFileSync(keyFilePath, key ?? (typeof chain === "string" ? "" : (chain[0]?.key ?? "")), {
        mode: 0o600,
      });
      writeFileSync(bundleFilePath, textOf(bundle));
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}
