/** Compact JWS (RFC 7515, 7.1) with the algorithms that SPIFFE's tokens may have: signing, parsing and verifying. */
import { constants, type KeyObject, verify } from "node:crypto";
import { invalidArgument } from "./errors.ts";
import type { KeyType, SigningKey } from "./keys.ts";
import type { TokenAuthority } from "./trust-bundle.ts";
import { importPublicKey } from "./x509/certificate.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

interface Verification {
  readonly hash: string;
  /** Curve of an ECDSA key, or the kind of RSA padding. */
  readonly curve?: string;
  readonly padding?: number;
}

const verifications: Readonly<Record<string, Verification>> = {
  ES256: { hash: "sha256", curve: "prime256v1" },
  ES384: { hash: "sha384", curve: "secp384r1" },
  ES512: { hash: "sha512", curve: "secp521r1" },
  RS256: { hash: "sha256", padding: constants.RSA_PKCS1_PADDING },
  RS384: { hash: "sha384", padding: constants.RSA_PKCS1_PADDING },
  RS512: { hash: "sha512", padding: constants.RSA_PKCS1_PADDING },
  PS256: { hash: "sha256", padding: constants.RSA_PKCS1_PSS_PADDING },
  PS384: { hash: "sha384", padding: constants.RSA_PKCS1_PSS_PADDING },
  PS512: { hash: "sha512", padding: constants.RSA_PKCS1_PSS_PADDING },
};

const algorithmOf: Readonly<Record<KeyType, string>> = {
  "ec-p256": "ES256",
  "ec-p384": "ES384",
  "rsa-2048": "RS256",
  "rsa-4096": "RS256",
};

/** What signs a token, and what the token is. */
export interface TokenSignature {
  readonly key: SigningKey;
  /** The `kid` under which the key stands in the trust bundle. */
  readonly keyId: string;
  /** The `typ` of the header. */
  readonly type: string;
}

/** A token in compact form; claims stand in the order in which they are given. */
export async function signToken({ key, keyId, type }: TokenSignature, claims: JsonObject): Promise<string> {
  const header = { alg: algorithmOf[key.type], kid: keyId, typ: type };
  const signed = `${encodeJson(header)}.${encodeJson(claims)}`;
  const signature = await key.sign(Buffer.from(signed, "latin1"), "ieee-p1363");
  return `${signed}.${Buffer.from(signature).toString("base64url")}`;
}

/** Go's JSON escapes what could end an HTML script; tokens of both implementations are the same bytes. */
const encodeJson = (value: object): string =>
  Buffer.from(
    JSON.stringify(value).replace(
      /[<>&\u2028\u2029]/g,
      (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
    ),
  ).toString("base64url");

/** RFC 7518, 3.3 and 3.5. */
export const smallestRsaBits = 2048;

export interface ParsedToken {
  readonly header: JsonObject;
  readonly claims: JsonObject;
  readonly verification: Verification;
  /** What the signature covers. */
  readonly signed: string;
  readonly signature: Uint8Array;
}

/** Go's %q of a list of strings. */
export const quoteList = (values: readonly string[]): string =>
  `[${values.map((value) => JSON.stringify(value)).join(" ")}]`;

const unparsable = (reason: string) => invalidArgument(`unable to parse JWT token: ${reason}`);

/**
 * Reads a token without judging its signature.
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text, also for an algorithm that is not allowed.
 */
export function parseToken(token: string): ParsedToken {
  const parts = token.split(".");
  const [encodedHeader, encodedClaims, encodedSignature] = parts;
  if (
    parts.length !== 3 ||
    encodedHeader === undefined ||
    encodedClaims === undefined ||
    encodedSignature === undefined
  ) {
    throw unparsable("go-jose/go-jose: compact JWS format must have three parts");
  }
  const headerBytes = decodeBase64(encodedHeader);
  const claimsBytes = decodeBase64(encodedClaims);
  const signature = decodeBase64(encodedSignature);
  const header = encodedHeader === "" ? {} : parseObject(headerBytes, "header");
  const algorithm = typeof header["alg"] === "string" ? header["alg"] : "";
  const verification = Object.hasOwn(verifications, algorithm) ? verifications[algorithm] : undefined;
  if (!verification) {
    const expected = quoteList(Object.keys(verifications));
    throw unparsable(`unexpected signature algorithm ${JSON.stringify(algorithm)}; expected ${expected}`);
  }
  return {
    header,
    claims: parseObject(claimsBytes, "payload"),
    verification,
    signed: `${encodedHeader}.${encodedClaims}`,
    signature,
  };
}

/** Unpadded base64url and nothing else, with the offset of the first wrong character in the error. */
function decodeBase64(text: string): Buffer {
  const wrong = text.search(/[^A-Za-z0-9_-]/);
  if (wrong >= 0) throw unparsable(`illegal base64 data at input byte ${wrong}`);
  if (text.length % 4 === 1) throw unparsable(`illegal base64 data at input byte ${text.length - 1}`);
  return Buffer.from(text, "base64url");
}

function parseObject(bytes: Buffer, part: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw unparsable(`${part} is not JSON`);
  }
  if (!isRecord(value)) throw unparsable(`${part} is not a JSON object`);
  return value;
}

const isRecord = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** @throws SpireError INVALID_ARGUMENT with SPIRE's text unless the authority's key signed the token. */
export function verifyToken(
  { header, verification, signed, signature }: ParsedToken,
  authority: Pick<TokenAuthority, "publicKey">,
): void {
  if (header["crit"] !== undefined) throw invalidArgument("go-jose/go-jose: unsupported critical header");
  const key = importPublicKey(authority.publicKey);
  if (!isSigned(verification, key, Buffer.from(signed, "latin1"), signature)) {
    throw invalidArgument("go-jose/go-jose: error in cryptographic primitive");
  }
}

function isSigned(
  { hash, curve, padding }: Verification,
  key: KeyObject,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (curve !== undefined) {
    if (key.asymmetricKeyDetails?.namedCurve !== curve) return false;
    return verify(hash, data, { key, dsaEncoding: "ieee-p1363" }, signature);
  }
  if (key.asymmetricKeyType !== "rsa" || padding === undefined) return false;
  if ((key.asymmetricKeyDetails?.modulusLength ?? 0) < smallestRsaBits) return false;
  return verify(hash, data, { key, padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }, signature);
}
