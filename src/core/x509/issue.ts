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

/** What signs certificates: a key, and the name of its signatures. */
export interface CertificateKey {
  /** DER AlgorithmIdentifier of its signatures. */
  readonly algorithm: Uint8Array;
  sign(tbs: Uint8Array): Promise<Uint8Array>;
}

/** A CA that signs; what its certificates have in common is encoded once. */
export interface Issuer {
  readonly key: CertificateKey;
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
  readonly dnsNames: readonly string[];
  /** As it is to be, see `workloadSubject`; undefined = C=US, O=SPIRE and the first DNS name as common name. */
  readonly subject?: Name;
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

const certificateKey = (key: SigningKey): CertificateKey => ({
  algorithm: signatureAlgorithm(key.type),
  sign: (tbs) => key.sign(tbs, "der"),
});

/**
 * Makes a CA ready to sign.
 * @throws SpireError INVALID_ARGUMENT when the certificate is malformed.
 */
export const createIssuer = (
  key: SigningKey,
  certificateDer: Uint8Array,
  upstreamChain: readonly Uint8Array[],
): Issuer => createIssuerOf(certificateKey(key), certificateDer, upstreamChain);

/** `createIssuer` for a key of another kind than a server makes itself. */
export function createIssuerOf(
  key: CertificateKey,
  certificateDer: Uint8Array,
  upstreamChain: readonly Uint8Array[],
): Issuer {
  const certificate = parseCertificate(certificateDer);
  const head = Buffer.concat([key.algorithm, certificate.subjectDer]);
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
  const { spiffeId, publicKeyInfo, ttlSeconds, dnsNames, subject } = parameters;
  return issue(issuer.key, issuer.leafTemplate, {
    subject: subject ? encodeName(subject) : subjectWith(dnsNames),
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

/** What an upstream authority is asked for: everything else of a CA's certificate is the upstream's to say. */
export interface RequestedCa {
  /** DER Name. */
  readonly subjectDer: Uint8Array;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKeyInfo: Uint8Array;
  readonly uris: readonly string[];
  readonly ttlSeconds: number;
}

/** The CA of a server below, with the subject that it asks for. Errors as `issueWorkloadSvid`. */
export function issueRequestedCa(
  issuer: Issuer,
  { subjectDer, publicKeyInfo, uris, ttlSeconds }: RequestedCa,
  nowSeconds: number,
): Promise<IssuedCertificate> {
  return issue(issuer.key, issuer.caTemplate, {
    subject: subjectDer,
    publicKeyInfo,
    alternativeNames: encodeAlternativeNames([], uris),
    validity: validity(nowSeconds, ttlSeconds, issuer.notAfter),
  });
}

/**
 * The subject of a CA that an upstream authority is to sign: unique by a random number in the place that the
 * certificate's serial number has in a self-signed one, as that isn't known yet.
 */
export const requestedCaSubject = (subject: CaSubjectParts | undefined): Uint8Array =>
  encodeName({ ...caName(subject), serialNumber: [decimal(randomSerial())] });

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
  return issue(certificateKey(key), template, holes, serial);
}

function caName(subject: CaSubjectParts | undefined): Name {
  const { country = [], organization = [], commonName = "" } = subject ?? {};
  if (country.length + organization.length === 0 && commonName === "") {
    return { country: ["US"], organization: ["SPIFFE"] };
  }
  return { country, organization, commonName: commonName === "" ? [] : [commonName] };
}

const subjectWith = (dnsNames: readonly string[]): Uint8Array =>
  dnsNames.length === 0 ? svidSubject : encodeName(workloadSubject(dnsNames));

/**
 * A workload's subject: C=US, O=SPIRE, or what `askedDer` (DER Name) has unless that is empty; the first DNS name
 * becomes the common name. @throws SpireError INVALID_ARGUMENT when `askedDer` is malformed.
 */
export function workloadSubject(dnsNames: readonly string[], askedDer?: Uint8Array): Name {
  const asked = askedDer !== undefined && askedDer.length > emptyNameSize;
  const name = asked ? decodeName(askedDer) : svidName;
  const [commonName] = dnsNames;
  return commonName === undefined ? name : { ...name, commonName: [commonName] };
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
  key: CertificateKey,
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
  const signature = await key.sign(tbs);
  return {
    der: assemble(tbs, key.algorithm, signature),
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
