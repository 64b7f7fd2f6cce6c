/** Trust bundles between messages and the domain, with their masks. */
import { invalidArgument } from "../../core/errors.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import {
  hasJwk,
  type TokenAuthority,
  type TrustBundle,
  type X509Authority,
} from "../../core/trust-bundle.ts";
import { importPublicKey, parseCertificate, splitDer } from "../../core/x509/certificate.ts";
import type {
  BundleMask,
  Bundle as BundleMessage,
  JWTKey,
  WITKey,
  X509Certificate,
} from "../../rpc/gen/spire/api/types/bundle.ts";
import { within } from "./convert-id.ts";
import { toBuffer } from "./convert-svid.ts";

/** What the mask names, all without one; the trust domain always. */
export function toBundleMessage(bundle: TrustBundle, mask?: BundleMask): BundleMessage {
  const has = (field: keyof BundleMask) => !mask || mask[field];
  return {
    trustDomain: bundle.trustDomain,
    x509Authorities: has("x509Authorities") ? bundle.x509Authorities.map(toX509Message) : [],
    jwtAuthorities: has("jwtAuthorities") ? bundle.jwtAuthorities.map(toKeyMessage) : [],
    witAuthorities: has("witAuthorities") ? bundle.witAuthorities.map(toKeyMessage) : [],
    refreshHint: has("refreshHint") ? bundle.refreshHint : 0,
    sequenceNumber: has("sequenceNumber") ? bundle.sequenceNumber : 0,
  };
}

const toX509Message = ({ der, tainted }: X509Authority): X509Certificate => ({
  asn1: toBuffer(der),
  tainted,
});

export const toKeyMessage = ({ publicKey, keyId, expiresAt, tainted }: TokenAuthority): JWTKey => ({
  publicKey: toBuffer(publicKey),
  keyId,
  expiresAt,
  tainted,
});

/**
 * @param failure how the refusal begins.
 * @throws SpireError INVALID_ARGUMENT
 */
export const fromBundleMessage = (
  message: BundleMessage,
  trustDomain: TrustDomain,
  failure = "failed to convert bundle",
): TrustBundle =>
  within(failure, () => ({
    trustDomain,
    x509Authorities: within("unable to parse X.509 authority", () => fromX509(message.x509Authorities)),
    jwtAuthorities: within("unable to parse JWT authority", () => message.jwtAuthorities.map(fromKey)),
    witAuthorities: within("unable to parse WIT authority", () => message.witAuthorities.map(fromKey)),
    refreshHint: message.refreshHint,
    sequenceNumber: message.sequenceNumber,
  }));

/** The parts of `given` that the mask names over those of `current`; all without a mask. */
export const mergeMasked = (
  current: TrustBundle,
  given: TrustBundle,
  mask: BundleMask | undefined,
): TrustBundle => ({
  trustDomain: current.trustDomain,
  x509Authorities: (!mask || mask.x509Authorities ? given : current).x509Authorities,
  jwtAuthorities: (!mask || mask.jwtAuthorities ? given : current).jwtAuthorities,
  witAuthorities: (!mask || mask.witAuthorities ? given : current).witAuthorities,
  refreshHint: (!mask || mask.refreshHint ? given : current).refreshHint,
  sequenceNumber: (!mask || mask.sequenceNumber ? given : current).sequenceNumber,
});

/**
 * One message may hold several certificates, one after the other. What is tainted is not for a caller to say, but
 * for the server whose authority it is.
 * @throws SpireError INVALID_ARGUMENT.
 */
export function fromX509(messages: readonly X509Certificate[]): X509Authority[] {
  return messages.flatMap(({ asn1 }) =>
    splitDer(asn1).map((der) => ({ der: parseCertificate(der).der, tainted: false })),
  );
}

/**
 * Untainted, as `fromX509`.
 * @throws SpireError INVALID_ARGUMENT for a key that is no SubjectPublicKeyInfo, that has no form as a JWK, or
 * without an ID.
 */
export function fromKey({ publicKey, keyId, expiresAt }: JWTKey | WITKey): TokenAuthority {
  importPublicKey(publicKey);
  if (keyId === "") throw invalidArgument("missing key ID");
  if (!hasJwk({ keyId, publicKey })) throw invalidArgument("public key is of an unsupported kind");
  return { keyId, publicKey, expiresAt, tainted: false };
}
