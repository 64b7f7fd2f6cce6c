/** WIT-SVIDs: signing and validating (SPIFFE's WIT-SVID standard; RFC 7515, 7519, 7800). */
import { createPublicKey, type KeyObject } from "node:crypto";
import { invalidArgument } from "./errors.ts";
import { type JsonObject, parseToken, signToken, smallestRsaBits, verifyToken } from "./jws.ts";
import type { SigningKey } from "./keys.ts";
import { type SpiffeId, trustDomainOf } from "./spiffe-id.ts";
import {
  checkTimes,
  type FindTokenAuthority,
  parseSubject,
  readClaims,
  requireAuthority,
} from "./token-claims.ts";

/** A workload's own key, to which a WIT-SVID binds its identity, and what it signs with. */
export interface ConfirmationKey {
  readonly publicKey: KeyObject;
  /** A name of RFC 7518, 3.1, that goes with the key. */
  readonly algorithm: string;
}

export interface WitSvidParameters {
  readonly key: SigningKey;
  /** The `kid` under which the key stands in the trust bundle. */
  readonly keyId: string;
  readonly spiffeId: SpiffeId;
  /** Has passed `requireConfirmation`. */
  readonly confirmation: ConfirmationKey;
  /** Unix seconds. */
  readonly issuedAt: number;
  /** Unix seconds. */
  readonly expiresAt: number;
  readonly issuer?: string;
}

const tokenType = "wit+jwt";

const rsaAlgorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
/** By the curves' names in node:crypto: what SPIRE calls such a key, and the one algorithm that goes with it. */
const curves: Readonly<Record<string, { readonly name: string; readonly algorithm: string }>> = {
  prime256v1: { name: "ec-p256", algorithm: "ES256" },
  secp384r1: { name: "ec-p384", algorithm: "ES384" },
  secp521r1: { name: "ec-p521", algorithm: "ES512" },
};

/**
 * Holds that key and algorithm go together, and are among those of the standard's section 3.2.
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text.
 */
export function requireConfirmation({ publicKey, algorithm }: ConfirmationKey): void {
  const { asymmetricKeyType, asymmetricKeyDetails } = publicKey;
  if (asymmetricKeyType === "rsa") {
    if (!rsaAlgorithms.includes(algorithm)) {
      throw invalidArgument(`unsupported signing algorithm for RSA key: ${algorithm}`);
    }
    // RFC 7518, 3.3: what a shorter key signs is refused by verifiers, so its WIT-SVID would be of no use.
    if ((asymmetricKeyDetails?.modulusLength ?? 0) >= smallestRsaBits) return;
    throw invalidArgument(`unsupported RSA key: it has fewer than ${smallestRsaBits} bits`);
  }
  const curve = curves[asymmetricKeyDetails?.namedCurve ?? ""];
  if (asymmetricKeyType !== "ec" || !curve) {
    throw invalidArgument(`unsupported key type '${asymmetricKeyDetails?.namedCurve ?? asymmetricKeyType}'`);
  }
  if (algorithm !== curve.algorithm) {
    throw invalidArgument(`unsupported signing algorithm for ${curve.name} key: ${algorithm}`);
  }
}

/** A token in compact form. */
export async function signWitSvid(parameters: WitSvidParameters): Promise<string> {
  const { key, keyId, spiffeId, confirmation, issuedAt, expiresAt, issuer } = parameters;
  // Claims stand in alphabetical order, as in SPIRE's tokens.
  const claims = {
    cnf: { jwk: toJwk(confirmation) },
    exp: expiresAt,
    iat: issuedAt,
    ...(issuer ? { iss: issuer } : {}),
    sub: spiffeId,
  };
  return signToken({ key, keyId, type: tokenType }, claims);
}

/** In SPIRE's order of fields. */
function toJwk({ publicKey, algorithm }: ConfirmationKey): object {
  const { kty, crv, x, y, n, e } = publicKey.export({ format: "jwk" });
  return { kty, crv, alg: algorithm, x, y, n, e };
}

export interface VerifiedWitSvid {
  readonly spiffeId: SpiffeId;
  readonly claims: JsonObject;
  readonly keyId: string;
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Who presents the token has to prove possession of this key: by itself the token proves nothing (section 7.1). */
  readonly confirmation: ConfirmationKey;
}

/**
 * Validates a token at `nowSeconds` (unix time) but for the proof of possession, which the caller has to see to.
 * @throws SpireError INVALID_ARGUMENT for the rule that is broken.
 */
export function verifyWitSvid(
  token: string,
  findAuthority: FindTokenAuthority,
  nowSeconds: number,
): VerifiedWitSvid {
  const parsed = parseToken(token);
  const { kid, typ } = parsed.header;
  if (typ !== tokenType) throw invalidArgument(`token is no WIT-SVID: its type is not "${tokenType}"`);
  if (typeof kid !== "string" || kid === "") throw invalidArgument("token header missing key id");
  const claims = readClaims(parsed.claims);
  if (claims.subject === "") throw invalidArgument("token missing subject claim");
  if (claims.expiresAt === undefined) throw invalidArgument("token missing exp claim");
  if (parsed.claims["aud"] !== undefined)
    throw invalidArgument("token has an audience claim, which a WIT-SVID may not");
  const spiffeId = parseSubject(claims.subject);
  verifyToken(parsed, requireAuthority(findAuthority, trustDomainOf(spiffeId), kid));
  // The time of issue is for the record only (section 3.6).
  checkTimes({ ...claims, issuedAt: undefined }, nowSeconds);
  const confirmation = readConfirmation(parsed.claims["cnf"]);
  return { spiffeId, claims: parsed.claims, keyId: kid, expiresAt: claims.expiresAt, confirmation };
}

function readConfirmation(cnf: unknown): ConfirmationKey {
  const jwk = isObject(cnf) ? cnf["jwk"] : undefined;
  if (!isObject(jwk)) throw invalidArgument("token missing cnf claim with a jwk");
  const algorithm = jwk["alg"];
  if (typeof algorithm !== "string") throw invalidArgument("token has a cnf.jwk without an algorithm");
  const confirmation = { publicKey: readJwk(jwk), algorithm };
  requireConfirmation(confirmation);
  return confirmation;
}

function readJwk(jwk: JsonObject): KeyObject {
  try {
    return createPublicKey({ key: { ...jwk }, format: "jwk" });
  } catch (cause) {
    throw invalidArgument("token has a cnf.jwk that is no public key", cause);
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
