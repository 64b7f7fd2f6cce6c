/** Certificates: the fields that issuing and verifying SVIDs needs, read straight from DER (RFC 5280, 4.1). */
import { createPublicKey, hash, type KeyObject } from "node:crypto";
import { invalidArgument, SpireError } from "../errors.ts";
import {
  bitStringBytes,
  constructed,
  type DerElement,
  DerReader,
  primitive,
  readBoolean,
  readOid,
  readOnly,
  readTime,
  tags,
  unsignedBytes,
} from "./der.ts";
import { type Extension, extensionOids, keyUsageBits, readAlternativeNames } from "./extensions.ts";
import { type NameConstraints, readNameConstraints } from "./name-constraints.ts";

export interface Certificate {
  readonly der: Uint8Array;
  /** TBSCertificate, the bytes that are signed. */
  readonly tbs: Uint8Array;
  /** DER AlgorithmIdentifier of `signature`. */
  readonly signatureAlgorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** Decimal. */
  readonly serialNumber: string;
  /** DER Name. */
  readonly subjectDer: Uint8Array;
  /** DER Name. */
  readonly issuerDer: Uint8Array;
  /** Unix seconds. */
  readonly notBefore: number;
  /** Unix seconds; the certificate is valid through this second. */
  readonly notAfter: number;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array;
  /** URI and DNS names of the subject alternative name, in their order. */
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** IP addresses of the same, 4 or 16 bytes each. */
  readonly ipAddresses: readonly Uint8Array[];
  readonly isCa: boolean;
  /** How many intermediates may follow below this CA. */
  readonly pathLength?: number;
  readonly subjectKeyId?: Uint8Array;
  readonly authorityKeyId?: Uint8Array;
  /** Bits of `keyUsages`. */
  readonly keyUsage?: number;
  /** Dotted OIDs; absent when there is no such extension. */
  readonly extendedKeyUsages?: readonly string[];
  readonly nameConstraints?: NameConstraints;
  /** Dotted OIDs of critical extensions that are not processed: whoever verifies must refuse them. */
  readonly unhandledCritical: readonly string[];
}

/**
 * RFC 5280, 4.1.2.2 has 20 bytes and asks verifiers to bear with more; a length of a stranger's choice would cost
 * time that grows with its square.
 */
const longestSerial = 64;

/** @throws SpireError INVALID_ARGUMENT for anything but one DER certificate. */
export function parseCertificate(der: Uint8Array): Certificate {
  const outer = new DerReader(readOnly(der).content);
  const tbs = outer.read(tags.sequence);
  const signatureAlgorithm = outer.read(tags.sequence).raw;
  const signature = bitStringBytes(outer.read(tags.bitString));
  outer.end();

  const reader = new DerReader(tbs.content);
  const version = readVersion(reader.optional(constructed(0)));
  const serial = unsignedBytes(reader.read(tags.integer));
  if (serial.length > longestSerial)
    throw invalidArgument("malformed certificate: serial number is too long");
  if (Buffer.compare(reader.read(tags.sequence).raw, signatureAlgorithm) !== 0) {
    throw invalidArgument("malformed certificate: inner and outer signature algorithm differ");
  }
  const issuerDer = reader.read(tags.sequence).raw;
  const validity = reader.enter();
  const notBefore = readTime(validity.next());
  const notAfter = readTime(validity.next());
  validity.end();
  const subjectDer = reader.read(tags.sequence).raw;
  const publicKeyInfo = reader.read(tags.sequence).raw;
  reader.optional(primitive(1));
  reader.optional(primitive(2));
  const extensions = reader.optional(constructed(3));
  reader.end();
  if (extensions && version !== 3)
    throw invalidArgument("malformed certificate: extensions before version 3");

  return {
    der,
    tbs: tbs.raw,
    signatureAlgorithm,
    signature,
    serialNumber: BigInt(`0x${Buffer.from(serial).toString("hex")}`).toString(),
    subjectDer,
    issuerDer,
    notBefore,
    notAfter,
    publicKeyInfo,
    ...readExtensions(extensions),
  };
}

function readVersion(element: DerElement | undefined): number {
  if (!element) return 1;
  const [version = 0, ...more] = unsignedBytes(readOnly(element.content, tags.integer));
  if (more.length > 0 || (version !== 1 && version !== 2))
    throw invalidArgument("malformed certificate: unknown version");
  return version + 1;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type ExtensionFields = Mutable<
  Pick<
    Certificate,
    | "uris"
    | "dnsNames"
    | "ipAddresses"
    | "isCa"
    | "pathLength"
    | "subjectKeyId"
    | "authorityKeyId"
    | "keyUsage"
    | "extendedKeyUsages"
    | "nameConstraints"
  >
> & { unhandledCritical: string[] };

function readExtensions(element: DerElement | undefined): ExtensionFields {
  const fields: ExtensionFields = {
    uris: [],
    dnsNames: [],
    ipAddresses: [],
    isCa: false,
    unhandledCritical: [],
  };
  if (!element) return fields;
  const list = new DerReader(readOnly(element.content).content);
  const seen = new Set<string>();
  while (!list.done) {
    const extension = readExtension(list.enter());
    if (seen.has(extension.oid)) throw invalidArgument("malformed certificate: an extension appears twice");
    seen.add(extension.oid);
    const read = extensionReaders[extension.oid];
    if (read) read(extension.value, fields, extension.critical);
    else if (extension.critical) fields.unhandledCritical.push(extension.oid);
  }
  return fields;
}

/** The fields of one Extension, shared with certificate requests. */
export function readExtension(reader: DerReader): Extension {
  const oid = readOid(reader.read(tags.oid));
  const critical = reader.optional(tags.boolean);
  const value = reader.read(tags.octetString).content;
  reader.end();
  return { oid, critical: critical !== undefined && readBoolean(critical), value };
}

type ExtensionReader = (value: Uint8Array, fields: ExtensionFields, critical: boolean) => void;

const extensionReaders: Readonly<Record<string, ExtensionReader>> = {
  [extensionOids.keyUsage]: (value, fields) => {
    fields.keyUsage = keyUsageBits(readOnly(value, tags.bitString).content);
  },
  [extensionOids.extendedKeyUsage]: (value, fields) => {
    const usages: string[] = [];
    for (const list = new DerReader(readOnly(value).content); !list.done; ) {
      usages.push(readOid(list.read(tags.oid)));
    }
    fields.extendedKeyUsages = usages;
  },
  [extensionOids.basicConstraints]: (value, fields) => {
    const reader = new DerReader(readOnly(value).content);
    const ca = reader.optional(tags.boolean);
    const pathLength = reader.optional(tags.integer);
    reader.end();
    fields.isCa = ca !== undefined && readBoolean(ca);
    if (pathLength) fields.pathLength = Number(`0x${Buffer.from(unsignedBytes(pathLength)).toString("hex")}`);
  },
  [extensionOids.subjectKeyId]: (value, fields) => {
    fields.subjectKeyId = readOnly(value, tags.octetString).content;
  },
  [extensionOids.authorityKeyId]: (value, fields) => {
    const keyId = new DerReader(readOnly(value).content).optional(primitive(0));
    if (keyId) fields.authorityKeyId = keyId.content;
  },
  [extensionOids.subjectAlternativeName]: (value, fields) => {
    Object.assign(fields, readAlternativeNames(value));
  },
  [extensionOids.nameConstraints]: (value, fields, critical) => {
    fields.nameConstraints = readNameConstraints(value);
    if (critical && fields.nameConstraints.hasOthers) {
      fields.unhandledCritical.push(extensionOids.nameConstraints);
    }
  },
  // Nothing here asks for a certain policy, so any set of policies is acceptable.
  [extensionOids.certificatePolicies]: () => {},
};

const pemBlock = /-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]*?)-----END ([A-Z0-9 ]+)-----/g;

/**
 * DER of each certificate in a PEM text (RFC 7468), in their order; text around the blocks is skipped.
 * @throws SpireError INVALID_ARGUMENT when there is none, a block of another type, or no certificate inside.
 */
export function parsePemCertificates(pem: string): Uint8Array[] {
  const begins = pem.split("-----BEGIN ").length - 1;
  const blocks = [...pem.matchAll(pemBlock)];
  if (begins === 0) throw invalidArgument("no PEM blocks");
  if (blocks.length !== begins) throw invalidArgument("malformed PEM block");
  return blocks.map(([, label, base64 = "", endLabel]) => {
    if (label !== "CERTIFICATE" || endLabel !== label) {
      throw invalidArgument(`expected block type "CERTIFICATE"; got "${label}"`);
    }
    return parseCertificate(Buffer.from(base64, "base64")).der;
  });
}

/**
 * As above, but blocks of other types, such as private keys, are passed over.
 * @throws SpireError INVALID_ARGUMENT when there is no certificate, or one is damaged.
 */
export function readPemCertificates(pem: string): Uint8Array[] {
  const begins = pem.split("-----BEGIN CERTIFICATE-----").length - 1;
  const blocks = [...pem.matchAll(pemBlock)].filter(
    ([, label, , endLabel]) => label === "CERTIFICATE" && endLabel === label,
  );
  if (begins === 0) throw invalidArgument("no certificates found in file");
  if (blocks.length !== begins) throw invalidArgument("malformed PEM block");
  return blocks.map(([, , base64 = ""], at) => {
    try {
      return parseCertificate(Buffer.from(base64, "base64")).der;
    } catch (error) {
      const { message } = SpireError.from(error);
      throw invalidArgument(`unable to parse certificate in block ${at}: ${message}`, error);
    }
  });
}

/** PEM with 64 characters a line and a line feed after the last block. */
export const formatPemCertificates = (ders: readonly Uint8Array[]): string =>
  ders.map(formatPemCertificate).join("");

function formatPemCertificate(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

/**
 * The certificates of a concatenation of DER, as the Workload API sends chains and bundles.
 * @throws SpireError INVALID_ARGUMENT
 */
export function splitDer(concatenated: Uint8Array): Uint8Array[] {
  const ders: Uint8Array[] = [];
  for (const reader = new DerReader(concatenated); !reader.done; ) ders.push(reader.read(tags.sequence).raw);
  return ders;
}

const publicKeys = new WeakMap<Certificate, KeyObject>();

/** The subject's key, imported once. @throws SpireError INVALID_ARGUMENT for a key of an unknown kind. */
export function publicKeyOf(certificate: Certificate): KeyObject {
  let key = publicKeys.get(certificate);
  if (!key) {
    key = importPublicKey(certificate.publicKeyInfo);
    publicKeys.set(certificate, key);
  }
  return key;
}

/** A key from DER SubjectPublicKeyInfo. @throws SpireError INVALID_ARGUMENT */
export function importPublicKey(publicKeyInfo: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(publicKeyInfo), type: "spki", format: "der" });
  } catch (cause) {
    throw invalidArgument("malformed or unsupported public key", cause);
  }
}

/** SHA-1 of the subjectPublicKey bits (RFC 5280, 4.2.1.2, method 1). */
export function keyIdOf(publicKeyInfo: Uint8Array): Buffer {
  const reader = new DerReader(readOnly(publicKeyInfo).content);
  reader.read(tags.sequence);
  return hash("sha1", bitStringBytes(reader.read(tags.bitString)), "buffer");
}

/**
 * Lowercase hex of the subject key identifier: SPIRE's name for an X.509 authority. Of a bare public key
 * (DER SubjectPublicKeyInfo), the identifier that its certificate gets.
 */
export function authorityId(subject: Certificate | Uint8Array): string {
  const keyId = subject instanceof Uint8Array ? keyIdOf(subject) : subjectKeyIdOf(subject);
  return Buffer.from(keyId).toString("hex");
}

/** The subject key identifier, computed when the certificate has none. */
export const subjectKeyIdOf = (certificate: Certificate): Uint8Array =>
  certificate.subjectKeyId ?? keyIdOf(certificate.publicKeyInfo);
