/** Certificates of nodes and their authorities, with keys of every kind, as an operator's PKI would make them. */
import "reflect-metadata";
import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { formatPemCertificates } from "../../src/core/x509/certificate.ts";

export type NodeKey = "ec-p256" | "ec-p384" | "ec-p521" | "rsa-2048" | "rsa-3072" | "ed25519";

export interface NodeCertificate {
  readonly der: Uint8Array;
  readonly pem: string;
  readonly privateKey: KeyObject;
  /** PKCS #8. */
  readonly keyPem: string;
  readonly subject: string;
}

export interface NodeCertificateRequest {
  /** Undefined = it signs itself. */
  readonly issuer?: NodeCertificate;
  readonly key?: NodeKey;
  readonly keyPem?: string;
  /** Such as `CN=node1`. */
  readonly subject?: string;
  /** A number is a path length. */
  readonly ca?: boolean | number;
  /** Undefined = keyCertSign for a CA, digitalSignature else. */
  readonly usage?: number;
  readonly uris?: readonly string[];
  readonly ips?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** Hexadecimal. */
  readonly serialNumber?: string;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly extensions?: readonly x509.Extension[];
}

const hour = 3_600_000;

function newKeyPem(kind: NodeKey): string {
  const pair =
    kind === "ed25519"
      ? generateKeyPairSync("ed25519")
      : kind.startsWith("rsa")
        ? generateKeyPairSync("rsa", { modulusLength: Number(kind.slice(4)) })
        : generateKeyPairSync("ec", { namedCurve: kind.replace("ec-p", "P-") });
  return pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** How WebCrypto names what a key signs with. */
function algorithmOf(key: KeyObject) {
  const { namedCurve } = key.asymmetricKeyDetails ?? {};
  const curve = { prime256v1: "P-256", secp384r1: "P-384", secp521r1: "P-521" }[namedCurve ?? ""];
  if (curve) return { name: "ECDSA", namedCurve: curve, hash: "SHA-256" };
  return key.asymmetricKeyType === "rsa"
    ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }
    : { name: "Ed25519" };
}

/** Both halves as WebCrypto has them. */
async function webKeys(keyPem: string) {
  const key = createPrivateKey(keyPem);
  const algorithm = algorithmOf(key);
  const pkcs8 = key.export({ type: "pkcs8", format: "der" });
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, true, ["sign"]);
  const {
    d,
    p,
    q,
    dp,
    dq,
    qi,
    key_ops: operations,
    ...open
  } = await crypto.subtle.exportKey("jwk", privateKey);
  const jwk = { ...open, key_ops: ["verify"] };
  const publicKey = await crypto.subtle.importKey("jwk", jwk, algorithm, true, ["verify"]);
  return { algorithm, privateKey, publicKey };
}

export async function makeNodeCertificate(request: NodeCertificateRequest = {}): Promise<NodeCertificate> {
  const { issuer, ca = false, subject = ca === false ? "CN=node1" : "CN=pop ca" } = request;
  const keyPem = request.keyPem ?? newKeyPem(request.key ?? "ec-p256");
  const own = await webKeys(keyPem);
  const signer = issuer ? await webKeys(issuer.keyPem) : own;
  const { uris = [], ips = [], dnsNames = [] } = request;
  const names: x509.JsonGeneralName[] = [
    ...uris.map((value) => ({ type: "url" as const, value })),
    ...ips.map((value) => ({ type: "ip" as const, value })),
    ...dnsNames.map((value) => ({ type: "dns" as const, value })),
  ];
  const { keyCertSign, digitalSignature } = x509.KeyUsageFlags;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: request.serialNumber ?? "0a0b0c",
    subject,
    issuer: issuer?.subject ?? subject,
    notBefore: request.notBefore ?? new Date(Date.now() - hour),
    notAfter: request.notAfter ?? new Date(Date.now() + 24 * hour),
    publicKey: own.publicKey,
    signingKey: signer.privateKey,
    signingAlgorithm: signer.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(ca !== false, typeof ca === "number" ? ca : undefined, true),
      new x509.KeyUsagesExtension(request.usage ?? (ca === false ? digitalSignature : keyCertSign), true),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ...(request.extensions ?? []),
    ],
  });
  const der = new Uint8Array(certificate.rawData);
  const pem = formatPemCertificates([der]);
  return { der, pem, privateKey: createPrivateKey(keyPem), keyPem, subject };
}

export interface PemFolder {
  /** Writes a file; resolves to its path. */
  write(name: string, ...parts: readonly string[]): string;
  remove(): void;
}

export function createPemFolder(): PemFolder {
  const folder = mkdtempSync(join(tmpdir(), "spire-pem-"));
  return {
    write(name, ...parts) {
      const path = join(folder, name);
      writeFileSync(path, parts.join(""), { mode: 0o600 });
      return path;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
