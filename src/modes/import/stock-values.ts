/** Values of stock SPIRE's database in our terms. */
import { invalidArgument } from "../../core/errors.ts";
import { type FederationRelationship, requireBundleEndpointUrl } from "../../core/federation.ts";
import {
  parseSpiffeId,
  parseTrustDomain,
  parseTrustDomainOrId,
  type TrustDomain,
} from "../../core/spiffe-id.ts";
import type { TokenAuthority, TrustBundle } from "../../core/trust-bundle.ts";
import { authorityId, importPublicKey, parseCertificate, splitDer } from "../../core/x509/certificate.ts";
import {
  StoredAttributes,
  StoredBundle,
  StoredJournal,
  type StoredKey,
  StoredStatus,
  type StoredTokenAuthority,
  type StoredX509Authority,
} from "../../rpc/gen/spire/server/stock/v1/stock.ts";
import type { AuthorityKind, AuthorityStatus, JournalChange, JournalEntry } from "../../server/journal.ts";

/**
 * Unix seconds of a date as Go's driver writes it: `2026-11-22 03:46:35.281227417+00:00`; 0 for null.
 * @throws SpireError INVALID_ARGUMENT for another form.
 */
export function parseDate(value: unknown): number {
  if (value === null || value === undefined) return 0;
  if (typeof value === "number") return value;
  const [, date, time, fraction, zone] =
    /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?/.exec(String(value)) ?? [];
  const ms = Date.parse(`${date}T${time}${zone ?? "Z"}`);
  if (Number.isNaN(ms)) throw invalidArgument(`${JSON.stringify(value)} is no date`);
  // SPIRE rounds to the nearest second, and writes year 1 for none.
  return Math.max(0, ms / 1000 + (Number(fraction ?? 0) >= 0.5 ? 1 : 0));
}

/** @throws SpireError INVALID_ARGUMENT for what can't be read, or is another trust domain's. */
export function readStoredBundle(trustDomain: TrustDomain, data: Uint8Array): TrustBundle {
  const stored = decode(() => StoredBundle.decode(data));
  if (parseTrustDomainOrId(stored.trustDomainId) !== trustDomain) {
    throw invalidArgument(`it holds the bundle of ${JSON.stringify(stored.trustDomainId)}`);
  }
  return {
    trustDomain,
    x509Authorities: stored.rootCas.flatMap(({ derBytes, taintedKey }) =>
      splitDer(derBytes).map((der) => ({ der: parseCertificate(der).der, tainted: taintedKey })),
    ),
    jwtAuthorities: stored.jwtSigningKeys.map(readKey),
    witAuthorities: stored.witSigningKeys.map(readKey),
    refreshHint: stored.refreshHint,
    sequenceNumber: stored.sequenceNumber,
  };
}

function readKey({ pkixBytes, kid, notAfter, taintedKey }: StoredKey): TokenAuthority {
  importPublicKey(pkixBytes);
  return { keyId: kid, publicKey: pkixBytes, expiresAt: notAfter, tainted: taintedKey };
}

export function readStoredAttributes(data: Uint8Array | null): StoredAttributes {
  return decode(() => StoredAttributes.decode(data ?? new Uint8Array()));
}

/** The authorities of one server, oldest first; those of an unknown status are left out. */
export function readStoredJournal(data: Uint8Array): readonly JournalChange[] {
  const stored = decode(() => StoredJournal.decode(data));
  return [
    ...stored.x509Cas.flatMap((item) => changeOf("x509", item, readX509Authority)),
    ...stored.jwtKeys.flatMap((item) => changeOf("jwt", item, readTokenAuthority)),
    ...stored.witKeys.flatMap((item) => changeOf("wit", item, readTokenAuthority)),
  ];
}

type Facts = Omit<JournalEntry, "slot" | "status" | "issuedAt">;

function changeOf<T extends { slotId: string; status: StoredStatus; issuedAt: number }>(
  kind: AuthorityKind,
  stored: T,
  read: (stored: T) => Facts,
): JournalChange[] {
  const status = statuses[stored.status];
  const { slotId: slot, issuedAt } = stored;
  if (!status || (slot !== "A" && slot !== "B")) return [];
  return [{ kind, entry: { ...read(stored), slot, status, issuedAt } }];
}

const statuses: Readonly<Record<number, AuthorityStatus>> = {
  [StoredStatus.STORED_STATUS_PREPARED]: "prepared",
  [StoredStatus.STORED_STATUS_ACTIVE]: "active",
  [StoredStatus.STORED_STATUS_OLD]: "old",
};

function readX509Authority({ certificate, notAfter, upstreamChain }: StoredX509Authority): Facts {
  const parsed = parseCertificate(certificate);
  return {
    authorityId: authorityId(parsed),
    notAfter: notAfter || parsed.notAfter,
    der: parsed.der,
    upstreamChain,
  };
}

const readTokenAuthority = ({ kid, notAfter, publicKey }: StoredTokenAuthority): Facts => ({
  authorityId: kid,
  notAfter,
  der: publicKey,
  upstreamChain: [],
});

function decode<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw invalidArgument("it is no message of SPIRE's", cause);
  }
}

export interface StoredRelationship {
  readonly trust_domain: string;
  readonly bundle_endpoint_url: string;
  readonly bundle_endpoint_profile: string;
  readonly endpoint_spiffe_id: string | null;
}

/** @throws SpireError INVALID_ARGUMENT. */
export function readStoredRelationship(stored: StoredRelationship): FederationRelationship {
  const { bundle_endpoint_profile: type } = stored;
  if (type !== "https_web" && type !== "https_spiffe") {
    throw invalidArgument(`bundle endpoint profile ${JSON.stringify(type)} is unknown`);
  }
  return {
    trustDomain: parseTrustDomain(stored.trust_domain),
    bundleEndpointUrl: requireBundleEndpointUrl(stored.bundle_endpoint_url),
    profile:
      type === "https_web"
        ? { type }
        : { type, endpointSpiffeId: parseSpiffeId(stored.endpoint_spiffe_id ?? "") },
  };
}
