/** Issues certificates as SPIRE does: server CA, downstream CA, and SVIDs of server, agents and workloads. */
import { randomBytes } from "node:crypto";
import { SpireError } from "../errors.ts";
import { exportPublicKeyInfo, type SigningKey } from "../keys.ts";
import { type SpiffeId, type TrustDomain, trustDomainId } from "../spiffe-id.ts";
import { signatureAlgorithm } from "./algorithms.ts";
import { keyIdOf, parseCertificate, subjectKeyIdOf } from "./certificate.ts";
import { encode, encodeOid, encodeTime, encodeUnsigned, primitive, tags } from "./der.ts";
import { encodeAlternativeNames, encodeExtension, extensionOids } from "./extensions.ts";
import { decodeName, encodeName, type Name } from "./name.ts";
import { assemble, fillTemplate, type Template } from "./template.ts";

/** A CA that signs; what its certificates have in common is encoded once. */
export interface Issuer {
  readonly key: SigningKey;
  readonly certificateDer: Uint8Array;
  /** What follows a leaf in its chain, this CA's certificate first; empty when the CA is self-signed. */
  readonly upstreamChain: readonly Uint8Array[];
  /** Unix seconds; nothing outlives it. */
  readonly notAfter: number;
  readonly subject: Name;
  readonly leafTemplate: Template;
  readonly caTemplate: Template;
}

export interface IssuedCertificate {
  readonly der: Uint8Array;
  /** Decimal. */
  readonly serialNumber: string;
  /** Unix seconds. */
  readonly notBefore: number;
  /** Unix seconds. */
  readonly notAfter: number;
}

export interface SvidParameters {
  readonly spiffeId: SpiffeId;
  /** DER SubjectPublicKeyInfo, taken over as it is. */
  readonly publicKeyInfo: Uint8Array;
  /** At least 1; capped at the CA's own end. */
  readonly ttlSeconds: number;
}

export interface WorkloadSvidParameters extends SvidParameters {
  /** The first becomes the common name. */
  readonly dnsNames: readonly string[];
  /** DER Name that replaces C=US, O=SPIRE unless it is empty; for minted SVIDs. */
  readonly subjectDer?: Uint8Array;
}

export interface DownstreamCaParameters extends SvidParameters {
  /** Number of CAs from the root to the new one's issuer, which goes into the subject. */
  readonly chainLength: number;
}

/** Subject of a CA certificate; empty parts are left out. */
export interface CaSubjectParts {
  readonly country: readonly string[];
  readonly organization: readonly string[];
  readonly commonName: string;
}

export interface CaParameters {
  readonly key: SigningKey;
  readonly trustDomain: TrustDomain;
  readonly ttlSeconds: number;
  readonly subject?: CaSubjectParts;
}

/** Tolerates clocks that lag behind. */
const backdateSeconds = 10;

const critical = true;
/** digitalSignature, keyEncipherment, keyAgreement. */
const leafUsage = Uint8Array.of(tags.bitString, 2, 3, 0xa8);
/** keyCertSign, cRLSign. */
const caUsage = Uint8Array.of(tags.bitString, 2, 1, 0x06);
const serverAndClientAuth = encode(
  tags.sequence,
  encodeOid("1.3.6.1.5.5.7.3.1"),
  encodeOid("1.3.6.1.5.5.7.3.2"),
);

const leafExtensions = Buffer.concat([
  encodeExtension(extensionOids.keyUsage, critical, leafUsage),
  encodeExtension(extensionOids.extendedKeyUsage, !critical, serverAndClientAuth),
  encodeExtension(extensionOids.basicConstraints, critical, encode(tags.sequence)),
]);

const caExtensions = Buffer.concat([
  encodeExtension(extensionOids.keyUsage, critical, caUsage),
  encodeExtension(
    extensionOids.basicConstraints,
    critical,
    encode(tags.sequence, Uint8Array.of(tags.boolean, 1, 0xff)),
  ),
]);

const svidName: Name = { country: ["US"], organization: ["SPIRE"] };
const svidSubject = encodeName(svidName);
const emptyNameSize = 2;

/**
 * Makes a CA ready to sign.
 * @throws SpireError INVALID_ARGUMENT when the certificate is malformed.
 */
export function createIssuer(
  key: SigningKey,
  certificateDer: Uint8Array,
  upstreamChain: readonly Uint8Array[],
): Issuer {
  const certificate = parseCertificate(certificateDer);
  const head = Buffer.concat([signatureAlgorithm(key.type), certificate.subjectDer]);
  const authorityKeyId = encodeExtension(
    extensionOids.authorityKeyId,
    !critical,
    encode(tags.sequence, encode(primitive(0), subjectKeyIdOf(certificate))),
  );
  return {
    key,
    certificateDer,
    upstreamChain,
    notAfter: certificate.notAfter,
    subject: decodeName(certificate.subjectDer),
    leafTemplate: { head, firstExtensions: leafExtensions, authorityKeyId },
    caTemplate: { head, firstExtensions: caExtensions, authorityKeyId },
  };
}

/**
 * A workload's X.509-SVID (X509-SVID standard, sections 2 to 4). `nowSeconds` is unix time.
 * @throws SpireError FAILED_PRECONDITION when the CA has expired; INVALID_ARGUMENT for a DNS name outside of ASCII.
 */
export function issueWorkloadSvid(
  issuer: Issuer,
  parameters: WorkloadSvidParameters,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  const { spiffeId, publicKeyInfo, ttlSeconds, dnsNames } = parameters;
  return issue(issuer.key, issuer.leafTemplate, {
    subject: workloadSubject(parameters),
    publicKeyInfo,
    alternativeNames: encodeAlternativeNames(dnsNames, [spiffeId]),
    validity: validity(nowSeconds, ttlSeconds, issuer.notAfter),
  });
}

/** An agent's X.509-SVID. Errors as `issueWorkloadSvid`. */
export function issueAgentSvid(
  issuer: Issuer,
  { spiffeId, publicKeyInfo, ttlSeconds }: SvidParameters,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  return issueWorkloadSvid(issuer, { spiffeId, publicKeyInfo, ttlSeconds, dnsNames: [] }, nowSeconds);
}

/** The server's own X.509-SVID. Errors as `issueWorkloadSvid`. */
export function issueServerSvid(
  issuer: Issuer,
  parameters: SvidParameters,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  return issueAgentSvid(issuer, parameters, nowSeconds);
}

/** The CA of a downstream server; `spiffeId` is the trust domain's. Errors as `issueWorkloadSvid`. */
export function issueDownstreamCa(
  issuer: Issuer,
  { spiffeId, publicKeyInfo, ttlSeconds, chainLength }: DownstreamCaParameters,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  const subject = encodeName({ ...issuer.subject, organizationalUnit: [`DOWNSTREAM-${chainLength}`] });
  return issue(issuer.key, issuer.caTemplate, {
    subject,
    publicKeyInfo,
    alternativeNames: encodeAlternativeNames([], [spiffeId]),
    validity: validity(nowSeconds, ttlSeconds, issuer.notAfter),
  });
}

/**
 * A server's self-signed CA. Its subject is unique by the certificate's serial number in decimal, so that a
 * verifier which finds issuers by name never meets two.
 */
export function issueSelfSignedCa(
  { key, trustDomain, ttlSeconds, subject }: CaParameters,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  const serial = randomSerial();
  const name = encodeName({ ...caName(subject), serialNumber: [decimal(serial)] });
  const template: Template = {
    head: Buffer.concat([signatureAlgorithm(key.type), name]),
    firstExtensions: caExtensions,
    authorityKeyId: new Uint8Array(),
  };
  const holes = {
    subject: name,
    publicKeyInfo: exportPublicKeyInfo(key.publicKey),
    alternativeNames: encodeAlternativeNames([], [trustDomainId(trustDomain)]),
    validity: validity(nowSeconds, ttlSeconds, Number.POSITIVE_INFINITY),
  };
  return issue(key, template, holes, serial);
}

function caName(subject: CaSubjectParts | undefined): Name {
  const { country = [], organization = [], commonName = "" } = subject ?? {};
  if (country.length + organization.length === 0 && commonName === "") {
    return { country: ["US"], organization: ["SPIFFE"] };
  }
  return { country, organization, commonName: commonName === "" ? [] : [commonName] };
}

function workloadSubject({ dnsNames, subjectDer }: WorkloadSvidParameters): Uint8Array {
  const asked = subjectDer !== undefined && subjectDer.length > emptyNameSize;
  const [commonName] = dnsNames;
  if (!asked && commonName === undefined) return svidSubject;
  const name = asked ? decodeName(subjectDer) : svidName;
  return encodeName(commonName === undefined ? name : { ...name, commonName: [commonName] });
}

interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

function validity(nowSeconds: number, ttlSeconds: number, latest: number): Validity {
  const notBefore = nowSeconds - backdateSeconds;
  const notAfter = Math.min(nowSeconds + ttlSeconds, latest);
  if (notAfter < nowSeconds) {
    throw new SpireError("FAILED_PRECONDITION", "X.509 CA has expired; it can't sign until it is rotated");
  }
  return { notBefore, notAfter };
}

interface Contents {
  readonly subject: Uint8Array;
  readonly publicKeyInfo: Uint8Array;
  readonly alternativeNames: Uint8Array;
  readonly validity: Validity;
}

async function issue(
  key: SigningKey,
  template: Template,
  { subject, publicKeyInfo, alternativeNames, validity }: Contents,
  serial: Uint8Array = randomSerial(),
): Promise<IssuedCertificate> {
  const tbs = fillTemplate(template, {
    serialNumber: encodeUnsigned(serial),
    notBefore: encodeTime(validity.notBefore),
    notAfter: encodeTime(validity.notAfter),
    subject,
    publicKeyInfo,
    keyId: keyIdOf(publicKeyInfo),
    alternativeNames,
  });
  const signature = await key.sign(tbs, "der");
  return {
    der: assemble(tbs, signatureAlgorithm(key.type), signature),
    serialNumber: decimal(serial),
    ...validity,
  };
}

/** 128 uniformly random bits other than zero, as SPIRE draws them. */
function randomSerial(): Uint8Array {
  const bytes = randomBytes(16);
  return bytes.every((byte) => byte === 0) ? randomSerial() : bytes;
}

const decimal = (bytes: Uint8Array): string => BigInt(`0x${Buffer.from(bytes).toString("hex")}`).toString();
