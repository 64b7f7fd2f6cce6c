/** JWT-SVIDs: signing, and validating as SPIRE's agent does (JWT-SVID standard; RFC 7515, 7519). */
import { randomUUID } from "node:crypto";
import { invalidArgument } from "./errors.ts";
import { type JsonObject, parseToken, quoteList, signToken, verifyToken } from "./jws.ts";
import type { SigningKey } from "./keys.ts";
import { type SpiffeId, trustDomainOf } from "./spiffe-id.ts";
import {
  checkTimes,
  type FindTokenAuthority,
  parseSubject,
  readClaims,
  requireAuthority,
} from "./token-claims.ts";

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
  return signToken({ key, keyId, type: "JWT" }, claims);
}

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
