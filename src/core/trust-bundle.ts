/** Trust bundles: the public authorities of a trust domain (SPIFFE Trust Domain and Bundle standard). */
import { createPublicKey } from "node:crypto";
import { invalidArgument, SpireError } from "./errors.ts";
import { exportPublicKeyInfo } from "./keys.ts";
import { parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";
import {
  formatPemCertificates,
  importPublicKey,
  parseCertificate,
  parsePemCertificates,
  publicKeyOf,
} from "./x509/certificate.ts";

export interface X509Authority {
  readonly der: Uint8Array;
  readonly tainted: boolean;
}

/** A public key that verifies JWT-SVIDs or WIT-SVIDs. */
export interface TokenAuthority {
  readonly keyId: string;
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  /** Unix seconds; 0 = not stated. */
  readonly expiresAt: number;
  readonly tainted: boolean;
}

export interface TrustBundle {
  readonly trustDomain: TrustDomain;
  readonly x509Authorities: readonly X509Authority[];
  readonly jwtAuthorities: readonly TokenAuthority[];
  readonly witAuthorities: readonly TokenAuthority[];
  /** Seconds; 0 = not stated. */
  readonly refreshHint: number;
  /** Grows with each change. */
  readonly sequenceNumber: number;
}

/** The three kinds of authorities of a bundle. */
export type Authorities = Pick<TrustBundle, "x509Authorities" | "jwtAuthorities" | "witAuthorities">;

export const emptyBundle = (trustDomain: TrustDomain): TrustBundle => ({
  trustDomain,
  x509Authorities: [],
  jwtAuthorities: [],
  witAuthorities: [],
  refreshHint: 0,
  sequenceNumber: 0,
});

/** A bundle of the X.509 authorities in a PEM text. @throws SpireError INVALID_ARGUMENT */
export const parsePemBundle = (trustDomain: TrustDomain, pem: string): TrustBundle => ({
  ...emptyBundle(trustDomain),
  x509Authorities: parsePemCertificates(pem).map((der) => ({ der, tainted: false })),
});

/** The X.509 authorities as PEM. */
export const formatPemBundle = (bundle: TrustBundle): string =>
  formatPemCertificates(bundle.x509Authorities.map(({ der }) => der));

/** The X.509 authorities, one DER certificate after the other, as the Workload API sends them. */
export const concatDer = (bundle: TrustBundle): Uint8Array =>
  Buffer.concat(bundle.x509Authorities.map(({ der }) => der));

const uses = { x509: "x509-svid", jwt: "jwt-svid", wit: "wit-svid" } as const;

/**
 * Reads a SPIFFE bundle (standard, section 4): keys of an unknown use or type are skipped.
 * @throws SpireError INVALID_ARGUMENT when it is no JSON, has no list of keys, or a key of a known use is broken.
 */
export function parseSpiffeBundle(trustDomain: TrustDomain, text: string): TrustBundle {
  const document = parseJson(text);
  if (!isRecord(document)) throw invalidBundle("unable to parse JWKS: it is not an object");
  const keys = document["keys"] ?? undefined;
  if (keys === undefined) throw invalidBundle("no authorities found");
  if (!Array.isArray(keys)) throw invalidBundle('unable to parse JWKS: "keys" is not a list');
  const ofUse = (use: string) =>
    keys.filter(isRecord).filter((key) => key["use"] === use && hasKnownType(key));
  return {
    trustDomain,
    x509Authorities: unique(ofUse(uses.x509).map(readX509Key), x509Key),
    jwtAuthorities: unique(ofUse(uses.jwt).map(readTokenKey), tokenKey),
    witAuthorities: unique(ofUse(uses.wit).map(readTokenKey), tokenKey),
    refreshHint: readCount(document, "spiffe_refresh_hint"),
    sequenceNumber: readCount(document, "spiffe_sequence"),
  };
}

const invalidBundle = (reason: string, cause?: unknown): SpireError =>
  invalidArgument(`spiffebundle: ${reason}`, cause);

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalidBundle(`unable to parse JWKS: ${SpireError.from(cause).message}`, cause);
  }
}

type Json = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const hasKnownType = (key: Json): boolean =>
  key["kty"] === "EC" || key["kty"] === "RSA" || key["kty"] === "OKP";

function readCount(document: Json, field: string): number {
  const value = document[field] ?? 0;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw invalidBundle(`"${field}" is not a count`);
  }
  return value;
}

function readX509Key(key: Json): X509Authority {
  const certificates = key["x5c"];
  const [certificate] = Array.isArray(certificates) ? certificates : [];
  if (!Array.isArray(certificates) || certificates.length !== 1 || typeof certificate !== "string") {
    const count = Array.isArray(certificates) ? certificates.length : 0;
    throw invalidBundle(`expected a single certificate in an ${uses.x509} entry; got ${count}`);
  }
  try {
    return { der: parseCertificate(Buffer.from(certificate, "base64")).der, tainted: false };
  } catch (cause) {
    throw invalidBundle(`invalid certificate in an ${uses.x509} entry`, cause);
  }
}

function readTokenKey(key: Json): TokenAuthority {
  const keyId = key["kid"];
  if (typeof keyId !== "string" || keyId === "") throw invalidBundle("keyID cannot be empty");
  return { keyId, publicKey: readJwk(key), expiresAt: 0, tainted: false };
}

function readJwk(key: Json): Uint8Array {
  try {
    const publicKey = exportPublicKeyInfo(createPublicKey({ key: { ...key }, format: "jwk" }));
    // A JWK may be taken that could not be used later, such as one of RSA with exponent 1.
    importPublicKey(publicKey);
    return publicKey;
  } catch (cause) {
    throw invalidBundle("malformed or unsupported key", cause);
  }
}

/** A SPIFFE bundle as SPIRE writes it: 4 spaces a level, X.509 authorities first, nothing that is zero. */
export function formatSpiffeBundle(bundle: TrustBundle): string {
  const { x509Authorities, jwtAuthorities, witAuthorities, sequenceNumber, refreshHint } = bundle;
  const document = {
    keys: [
      ...x509Authorities.map(formatX509Key),
      ...jwtAuthorities.map((authority) => ({ use: uses.jwt, ...formatTokenKey(authority) })),
      ...witAuthorities.map((authority) => ({ use: uses.wit, ...formatTokenKey(authority) })),
    ],
    ...(sequenceNumber === 0 ? {} : { spiffe_sequence: sequenceNumber }),
    ...(refreshHint === 0 ? {} : { spiffe_refresh_hint: refreshHint }),
  };
  return JSON.stringify(document, undefined, 4);
}

/**
 * The JWT authorities as a plain JWK set (RFC 7517), for the Workload API. A key that has no form as a JWK verifies
 * no JWT-SVID either; it is left out, as it must not keep the others from the workloads.
 */
export const formatJwks = (bundle: Pick<TrustBundle, "jwtAuthorities">): string =>
  JSON.stringify({ keys: bundle.jwtAuthorities.filter(hasJwk).map(formatTokenKey) }, undefined, 4);

/** Whether a token key can be written as a JWK. */
export function hasJwk(authority: Pick<TokenAuthority, "keyId" | "publicKey">): boolean {
  try {
    formatTokenKey(authority);
    return true;
  } catch {
    return false;
  }
}

function formatX509Key({ der }: X509Authority): object {
  const { kty, ...parameters } = publicKeyOf(parseCertificate(der)).export({ format: "jwk" });
  return { use: uses.x509, kty, ...ordered(parameters), x5c: [Buffer.from(der).toString("base64")] };
}

function formatTokenKey({ keyId, publicKey }: Pick<TokenAuthority, "keyId" | "publicKey">): object {
  const { kty, ...parameters } = importPublicKey(publicKey).export({ format: "jwk" });
  return { kty, kid: keyId, ...ordered(parameters) };
}

/** Fields in the order in which SPIRE writes them; those that a key type has not are left out. */
function ordered({ crv, x, y, n, e }: Json): object {
  return { crv, x, y, n, e };
}

/** Writes all of a bundle, taint and expiry included, for a datastore or an agent's disk. */
export const serializeBundle = (bundle: TrustBundle): string =>
  JSON.stringify({
    trust_domain: bundle.trustDomain,
    x509_authorities: bundle.x509Authorities.map(({ der, tainted }) => ({
      asn1: Buffer.from(der).toString("base64"),
      ...(tainted ? { tainted } : {}),
    })),
    jwt_authorities: bundle.jwtAuthorities.map(serializeTokenAuthority),
    wit_authorities: bundle.witAuthorities.map(serializeTokenAuthority),
    refresh_hint: bundle.refreshHint,
    sequence_number: bundle.sequenceNumber,
  });

const serializeTokenAuthority = ({ keyId, publicKey, expiresAt, tainted }: TokenAuthority): object => ({
  key_id: keyId,
  public_key: Buffer.from(publicKey).toString("base64"),
  expires_at: expiresAt,
  ...(tainted ? { tainted } : {}),
});

/** Reads what `serializeBundle` wrote. @throws SpireError DATA_LOSS for anything else. */
export function deserializeBundle(text: string): TrustBundle {
  try {
    const stored: unknown = JSON.parse(text);
    if (!isRecord(stored)) throw invalidArgument("it is not an object");
    return {
      trustDomain: parseTrustDomain(stringIn(stored, "trust_domain")),
      x509Authorities: listIn(stored, "x509_authorities").map((item) => ({
        der: Buffer.from(stringIn(item, "asn1"), "base64"),
        tainted: item["tainted"] === true,
      })),
      jwtAuthorities: listIn(stored, "jwt_authorities").map(deserializeTokenAuthority),
      witAuthorities: listIn(stored, "wit_authorities").map(deserializeTokenAuthority),
      refreshHint: numberIn(stored, "refresh_hint"),
      sequenceNumber: numberIn(stored, "sequence_number"),
    };
  } catch (cause) {
    throw new SpireError("DATA_LOSS", `stored bundle is damaged: ${SpireError.from(cause).message}`, {
      cause,
    });
  }
}

const deserializeTokenAuthority = (item: Json): TokenAuthority => ({
  keyId: stringIn(item, "key_id"),
  publicKey: Buffer.from(stringIn(item, "public_key"), "base64"),
  expiresAt: numberIn(item, "expires_at"),
  tainted: item["tainted"] === true,
});

function stringIn(object: Json, field: string): string {
  const value = object[field];
  if (typeof value !== "string") throw invalidArgument(`"${field}" is not a text`);
  return value;
}

function numberIn(object: Json, field: string): number {
  const value = object[field];
  if (typeof value !== "number") throw invalidArgument(`"${field}" is not a number`);
  return value;
}

function listIn(object: Json, field: string): Json[] {
  const value = object[field];
  if (!Array.isArray(value) || !value.every(isRecord))
    throw invalidArgument(`"${field}" is not a list of objects`);
  return value;
}

/** `added`'s authorities after `bundle`'s, where they are new; the same object when none is. */
export function mergeBundles(bundle: TrustBundle, added: Authorities): TrustBundle {
  const merged = {
    ...bundle,
    x509Authorities: unique([...bundle.x509Authorities, ...added.x509Authorities], x509Key),
    jwtAuthorities: unique([...bundle.jwtAuthorities, ...added.jwtAuthorities], tokenKey),
    witAuthorities: unique([...bundle.witAuthorities, ...added.witAuthorities], tokenKey),
  };
  return countAuthorities(merged) === countAuthorities(bundle) ? bundle : merged;
}

const countAuthorities = ({ x509Authorities, jwtAuthorities, witAuthorities }: Authorities): number =>
  x509Authorities.length + jwtAuthorities.length + witAuthorities.length;

const x509Key = ({ der }: X509Authority): string => Buffer.from(der).toString("base64");
const tokenKey = ({ keyId }: TokenAuthority): string => keyId;

/** The first of those with one key, in their order. */
function unique<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  const seen = new Map<string, T>();
  for (const item of items) {
    const key = keyOf(item);
    if (!seen.has(key)) seen.set(key, item);
  }
  return [...seen.values()];
}

/** Whether two bundles say the same: authorities in any order, taint and expiry, refresh hint, sequence number. */
export const equalBundles = (a: TrustBundle, b: TrustBundle): boolean =>
  a === b || canonical(a) === canonical(b);

const canonical = (bundle: TrustBundle): string =>
  serializeBundle({
    ...bundle,
    x509Authorities: bundle.x509Authorities.toSorted(by(x509Key)),
    jwtAuthorities: bundle.jwtAuthorities.toSorted(by(tokenKey)),
    witAuthorities: bundle.witAuthorities.toSorted(by(tokenKey)),
  });

const by =
  <T>(keyOf: (item: T) => string) =>
  (a: T, b: T): number =>
    keyOf(a) < keyOf(b) ? -1 : 1;
