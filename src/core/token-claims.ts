/** What JWT-SVIDs and WIT-SVIDs have in common besides the signature: registered claims, and whose key must have signed. */
import { invalidArgument, SpireError } from "./errors.ts";
import type { JsonObject } from "./jws.ts";
import { parseSpiffeId, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";
import type { TokenAuthority } from "./trust-bundle.ts";

/** undefined: the trust domain has no such key; null: no bundle of that trust domain is known. */
export type FindTokenAuthority = (
  trustDomain: TrustDomain,
  keyId: string,
) => TokenAuthority | undefined | null;

/** Tolerated difference between clocks. */
const leewaySeconds = 60;

/** @throws SpireError INVALID_ARGUMENT unless the claim is a SPIFFE ID. */
export function parseSubject(subject: string): SpiffeId {
  try {
    return parseSpiffeId(subject);
  } catch (cause) {
    throw invalidArgument(`token has in invalid subject claim: ${SpireError.from(cause).message}`, cause);
  }
}

/** The key that is to have signed a token. @throws SpireError INVALID_ARGUMENT when it is not known. */
export function requireAuthority(
  find: FindTokenAuthority,
  trustDomain: TrustDomain,
  keyId: string,
): TokenAuthority {
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

/** The claims of RFC 7519, 4.1, that SPIFFE's tokens are judged by. */
export interface RegisteredClaims {
  readonly subject: string;
  readonly audience: readonly string[];
  /** Unix seconds, whole. */
  readonly expiresAt: number | undefined;
  readonly notBefore: number | undefined;
  readonly issuedAt: number | undefined;
}

/** @throws SpireError INVALID_ARGUMENT for a claim of another type than RFC 7519 gives it. */
export function readClaims(claims: JsonObject): RegisteredClaims {
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

/** @throws SpireError INVALID_ARGUMENT with SPIRE's text for a token that doesn't hold at `nowSeconds` (unix time). */
export function checkTimes({ expiresAt, notBefore, issuedAt }: RegisteredClaims, nowSeconds: number): void {
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
