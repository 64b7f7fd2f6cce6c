/** JWT-SVIDs: signing, and validating as SPIRE's agent does (JWT-SVID standard; RFC 7515, 7519). */
import { randomUUID } from "node:crypto";
import { invalidArgument, SpireError } from "./errors.ts";
import { type JsonObject, parseToken, quoteList, verifyToken } from "./jws.ts";
import type { KeyType, SigningKey } from "./keys.ts";
import { parseSpiffeId, type SpiffeId, type TrustDomain, trustDomainOf } from "./spiffe-id.ts";
import type { TokenAuthority } from "./trust-bundle.ts";

export interface JwtSvidParameters {
  readonly key: SigningKey;
  /** The `kid` under which the key stands in the trust bundle. */
  readonly keyId: string;
  readonly spiffeId: SpiffeId;
  /** Empty texts are dropped; one must remain. */
  readonly audience: readonly string[];
  /** Unix seconds. */
  readonly issuedAt: number;
  /** Unix seconds. */
  readonly expiresAt: number;
  readonly issuer?: string;
  readonly jti?: string;
}

const algorithmOf: Readonly<Record<KeyType, string>> = {
  "ec-p256": "ES256",
  "ec-p384": "ES384",
  "rsa-2048": "RS256",
  "rsa-4096": "RS256",
};

/** A token in compact form. @throws SpireError INVALID_ARGUMENT without an audience. */
export async function signJwtSvid(parameters: JwtSvidParameters): Promise<string> {
  const { key, keyId, spiffeId, issuedAt, expiresAt, issuer, jti } = parameters;
  const audience = parameters.audience.filter((value) => value !== "");
  if (audience.length === 0) throw invalidArgument("invalid JWT-SVID audience: cannot be empty");
  // Claims stand in alphabetical order, as in SPIRE's tokens.
  const claims = {
    aud: audience,
    exp: expiresAt,
    iat: issuedAt,
    ...(issuer ? { iss: issuer } : {}),
    ...(jti ? { jti } : {}),
    sub: spiffeId,
  };
  const header = { alg: algorithmOf[key.type], kid: keyId, typ: "JWT" };
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

/** A new `jti`: unpadded base64url of the 16 bytes of a random UUID. */
export const createTokenId = (): string =>
  Buffer.from(randomUUID().replaceAll("-", ""), "hex").toString("base64url");

export interface VerifiedJwtSvid {
  readonly spiffeId: SpiffeId;
  /** As in the token, but with `aud` always a list. */
  readonly claims: JsonObject;
  readonly audience: readonly string[];
  readonly keyId: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

/** undefined: the trust domain has no such key; null: no bundle of that trust domain is known. */
export type FindTokenAuthority = (
  trustDomain: TrustDomain,
  keyId: string,
) => TokenAuthority | undefined | null;

/** Tolerated difference between clocks. */
const leewaySeconds = 60;

/**
 * Validates a token for one audience at `nowSeconds` (unix time).
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text for the rule that is broken.
 */
export async function verifyJwtSvid(
  token: string,
  findAuthority: FindTokenAuthority,
  audience: string,
  nowSeconds: number,
): Promise<VerifiedJwtSvid> {
  const parsed = parseToken(token);
  const keyId = parsed.header["kid"];
  if (typeof keyId !== "string" || keyId === "") throw invalidArgument("token header missing key id");
  const claims = readClaims(parsed.claims);
  if (claims.subject === "") throw invalidArgument("token missing subject claim");
  if (claims.expiresAt === undefined) throw invalidArgument("token missing exp claim");
  const spiffeId = parseSubject(claims.subject);
  verifyToken(parsed, requireAuthority(findAuthority, trustDomainOf(spiffeId), keyId));
  if (!claims.audience.includes(audience)) {
    throw invalidArgument(
      `expected audience in ${quoteList([audience])} (audience=${quoteList(claims.audience)})`,
    );
  }
  checkTimes(claims, nowSeconds);
  return {
    spiffeId,
    claims: { ...parsed.claims, aud: claims.audience },
    audience: claims.audience,
    keyId,
    expiresAt: claims.expiresAt,
  };
}

function parseSubject(subject: string): SpiffeId {
  try {
    return parseSpiffeId(subject);
  } catch (cause) {
    throw invalidArgument(`token has in invalid subject claim: ${SpireError.from(cause).message}`, cause);
  }
}

function requireAuthority(find: FindTokenAuthority, trustDomain: TrustDomain, keyId: string): TokenAuthority {
  const authority = find(trustDomain, keyId);
  if (authority === null)
    throw invalidArgument(`no keys found for trust domain ${JSON.stringify(trustDomain)}`);
  if (authority === undefined) {
    throw invalidArgument(
      `public key ${JSON.stringify(keyId)} not found in trust domain ${JSON.stringify(trustDomain)}`,
    );
  }
  return authority;
}

interface RegisteredClaims {
  readonly subject: string;
  readonly audience: readonly string[];
  /** Unix seconds, whole. */
  readonly expiresAt: number | undefined;
  readonly notBefore: number | undefined;
  readonly issuedAt: number | undefined;
}

function readClaims(claims: JsonObject): RegisteredClaims {
  const { sub = "", aud = [] } = claims;
  if (typeof sub !== "string") throw invalidArgument("token has a subject claim that is no text");
  const audience = typeof aud === "string" ? [aud] : aud;
  if (!isTextList(audience)) throw invalidArgument("token has an audience claim that is no list of texts");
  return {
    subject: sub,
    audience,
    expiresAt: readNumericDate(claims["exp"]),
    notBefore: readNumericDate(claims["nbf"]),
    issuedAt: readNumericDate(claims["iat"]),
  };
}

const isTextList = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");

function readNumericDate(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number") {
    throw invalidArgument("go-jose/go-jose/jwt: expected number value to unmarshal NumericDate");
  }
  return Math.trunc(value);
}

function checkTimes({ expiresAt, notBefore, issuedAt }: RegisteredClaims, nowSeconds: number): void {
  if (notBefore !== undefined && nowSeconds + leewaySeconds < notBefore) {
    throw invalidArgument("go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)");
  }
  if (expiresAt !== undefined && nowSeconds - leewaySeconds > expiresAt) {
    throw invalidArgument("token has expired");
  }
  if (issuedAt !== undefined && nowSeconds + leewaySeconds < issuedAt) {
    throw invalidArgument("go-jose/go-jose/jwt: validation field, token issued in the future (iat)");
  }
}

/** What a token says, unverified: for one that came from the own server over an authenticated connection. */
export interface DecodedJwtSvid {
  readonly header: JsonObject;
  readonly claims: JsonObject;
}

/** @throws SpireError INVALID_ARGUMENT unless it is a token with an algorithm that JWT-SVIDs may have. */
export function decodeJwtSvid(token: string): DecodedJwtSvid {
  const { header, claims } = parseToken(token);
  return { header, claims };
}
