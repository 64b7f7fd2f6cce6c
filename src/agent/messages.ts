/** From the server's messages to the agent's values. */
import type { Entry } from "../core/entry.ts";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { sortSelectors } from "../core/selector.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from "../core/spiffe-id.ts";
import type { TokenAuthority, TrustBundle } from "../core/trust-bundle.ts";
import type { Bundle as BundleMessage, JWTKey, WITKey } from "../rpc/gen/spire/api/types/bundle.ts";
import type { Entry as EntryMessage } from "../rpc/gen/spire/api/types/entry.ts";
import type { SPIFFEID } from "../rpc/gen/spire/api/types/spiffeid.ts";
import type { X509SVID } from "../rpc/gen/spire/api/types/x509svid.ts";

/** @throws SpireError INTERNAL when it is missing, INVALID_ARGUMENT when it breaks a rule. */
export function spiffeIdFromMessage(message: SPIFFEID | undefined): SpiffeId {
  if (!message) throw new SpireError("INTERNAL", "server sent no SPIFFE ID");
  return makeSpiffeId(parseTrustDomain(message.trustDomain), message.path);
}

/**
 * An entry as an agent gets it. Its parent is not among the fields that an agent asks for; `owner`, the agent
 * itself, stands there instead.
 *
 * @throws SpireError when an ID is malformed, or when there is no selector: such an entry would match every process.
 */
export function entryFromMessage(message: EntryMessage, owner: SpiffeId): Entry {
  if (message.selectors.length === 0) throw invalidArgument("entry has no selectors");
  return {
    id: message.id,
    spiffeId: spiffeIdFromMessage(message.spiffeId),
    parentId: owner,
    selectors: sortSelectors(message.selectors),
    x509SvidTtl: message.x509SvidTtl,
    jwtSvidTtl: message.jwtSvidTtl,
    federatesWith: message.federatesWith.map(parseTrustDomain),
    admin: message.admin,
    downstream: message.downstream,
    expiresAt: message.expiresAt,
    dnsNames: message.dnsNames,
    revisionNumber: message.revisionNumber,
    storeSvid: message.storeSvid,
    hint: message.hint,
    createdAt: message.createdAt,
    disableX509SvidPrefetch: message.additionalAttributes?.disableX509SvidPrefetch ?? false,
    jwtSvidIncludeJti: message.additionalAttributes?.jwtSvidIncludeJti ?? false,
  };
}

export function bundleFromMessage(message: BundleMessage): TrustBundle {
  return {
    trustDomain: parseTrustDomain(message.trustDomain),
    x509Authorities: message.x509Authorities.map(({ asn1, tainted }) => ({ der: asn1, tainted })),
    jwtAuthorities: message.jwtAuthorities.map(tokenAuthority),
    witAuthorities: message.witAuthorities.map(tokenAuthority),
    refreshHint: message.refreshHint,
    sequenceNumber: message.sequenceNumber,
  };
}

const tokenAuthority = ({ keyId, publicKey, expiresAt, tainted }: JWTKey | WITKey): TokenAuthority => ({
  keyId,
  publicKey,
  expiresAt,
  tainted,
});

/** The chain of an SVID that the server signed. @throws SpireError INTERNAL when there is none. */
export function chainFromMessage(message: X509SVID | undefined): readonly Uint8Array[] {
  if (!message || message.certChain.length === 0) {
    throw new SpireError("INTERNAL", "server sent no certificate");
  }
  return message.certChain;
}
