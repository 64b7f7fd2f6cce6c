/** Entries and nodes as rows, and back. */
import type { Entry } from "../../../core/entry.ts";
import type { AttestedNode } from "../../../core/node.ts";
import { formatSelector, type Selector, selectorSetKey } from "../../../core/selector.ts";
import type { SpiffeId, TrustDomain } from "../../../core/spiffe-id.ts";

export interface EntryRow {
  readonly row: number;
  readonly id: string;
  readonly spiffe_id: string;
  readonly parent_id: string;
  readonly selectors: string;
  readonly x509_svid_ttl: number;
  readonly jwt_svid_ttl: number;
  readonly admin: number;
  readonly downstream: number;
  readonly expires_at: number;
  readonly dns_names: string;
  readonly revision_number: number;
  readonly store_svid: number;
  readonly hint: string;
  readonly created_at: number;
  readonly disable_x509_svid_prefetch: number;
  readonly jwt_svid_include_jti: number;
  readonly given_selectors: string | null;
  /** JSON, or null when there is none. */
  readonly federates_with: string | null;
}

export const entryColumns = `*, (SELECT json_group_array(trust_domain ORDER BY trust_domain)
  FROM entry_federation WHERE entry = entries.row) AS federates_with`;

/** Values of all columns but `row`, in the schema's order. */
export function entryValues(entry: Entry): (string | number | null)[] {
  const selectors = selectorSetKey(entry.selectors);
  const given = JSON.stringify(entry.selectors.map(formatSelector));
  return [...firstValues(entry, selectors), given === selectors ? null : given];
}

const firstValues = (entry: Entry, selectors: string): (string | number)[] => [
  entry.id,
  entry.spiffeId,
  entry.parentId,
  selectors,
  entry.x509SvidTtl,
  entry.jwtSvidTtl,
  Number(entry.admin),
  Number(entry.downstream),
  entry.expiresAt,
  JSON.stringify(entry.dnsNames),
  entry.revisionNumber,
  Number(entry.storeSvid),
  entry.hint,
  entry.createdAt,
  Number(entry.disableX509SvidPrefetch),
  Number(entry.jwtSvidIncludeJti),
];

/** What is stored was validated when it came in, so it is taken at its word. */
export const readEntry = (row: EntryRow): Entry => ({
  id: row.id,
  spiffeId: row.spiffe_id as SpiffeId,
  parentId: row.parent_id as SpiffeId,
  selectors: readSelectors(row.given_selectors ?? row.selectors),
  x509SvidTtl: row.x509_svid_ttl,
  jwtSvidTtl: row.jwt_svid_ttl,
  federatesWith: readTexts(row.federates_with ?? "[]") as readonly TrustDomain[],
  admin: row.admin === 1,
  downstream: row.downstream === 1,
  expiresAt: row.expires_at,
  dnsNames: readTexts(row.dns_names),
  revisionNumber: row.revision_number,
  storeSvid: row.store_svid === 1,
  hint: row.hint,
  createdAt: row.created_at,
  disableX509SvidPrefetch: row.disable_x509_svid_prefetch === 1,
  jwtSvidIncludeJti: row.jwt_svid_include_jti === 1,
});

export interface NodeRow {
  readonly row: number;
  readonly id: string;
  readonly attestation_type: string;
  readonly serial_number: string;
  readonly expires_at: number;
  readonly new_serial_number: string;
  readonly new_expires_at: number;
  readonly can_reattest: number;
  readonly agent_version: string;
  readonly selectors: string;
}

/** Values of all columns but `row`, in the schema's order. */
export const nodeValues = (node: AttestedNode): (string | number)[] => [
  node.id,
  node.attestationType,
  node.serialNumber,
  node.expiresAt,
  node.newSerialNumber,
  node.newExpiresAt,
  Number(node.canReattest),
  node.agentVersion,
  selectorSetKey(node.selectors),
];

export const readNode = (row: NodeRow): AttestedNode => ({
  id: row.id as SpiffeId,
  attestationType: row.attestation_type,
  serialNumber: row.serial_number,
  expiresAt: row.expires_at,
  newSerialNumber: row.new_serial_number,
  newExpiresAt: row.new_expires_at,
  canReattest: row.can_reattest === 1,
  agentVersion: row.agent_version,
  selectors: readSelectors(row.selectors),
});

function readSelectors(key: string): Selector[] {
  return readTexts(key).map((text) => {
    const colon = text.indexOf(":");
    return { type: text.slice(0, colon), value: text.slice(colon + 1) };
  });
}

/** Most lists are empty, and most of the time of reading a row would go into parsing them. */
const readTexts = (json: string): readonly string[] => (json === "[]" ? [] : (JSON.parse(json) as string[]));
