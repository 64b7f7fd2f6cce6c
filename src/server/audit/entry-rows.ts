/** What is audited of entry.v1: the entries that were given, and the filters that were asked for. */
import type { LogFields } from "../../core/log.ts";
import { makeSpiffeId, parseTrustDomainOrId } from "../../core/spiffe-id.ts";
import {
  EntryService,
  type ListEntriesRequest_Filter,
} from "../../rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { Entry, EntryMask } from "../../rpc/gen/spire/api/types/entry.ts";
import { FederatesWithMatch_MatchBehavior } from "../../rpc/gen/spire/api/types/federateswith.ts";
import { SelectorMatch_MatchBehavior } from "../../rpc/gen/spire/api/types/selector.ts";
import type { SPIFFEID } from "../../rpc/gen/spire/api/types/spiffeid.ts";
import { memberIdFrom, workloadIdFrom } from "../api/convert-id.ts";
import { type AuditContext, auditRows, itemsOf, nameOf, readable, selectorsText } from "./rows.ts";

export const entryRows = auditRows(EntryService, {
  countEntries: { fields: ({ filter }, context) => filterFields(filter, context) },
  listEntries: { fields: ({ filter }, context) => filterFields(filter, context) },
  getEntry: { fields: ({ id }) => ({ entry_id: id || undefined }) },
  batchCreateEntry: {
    items: ({ entries }, { results }) => itemsOf(entries, results, (entry) => entryFields(entry)),
  },
  batchUpdateEntry: {
    items: ({ entries, inputMask }, { results }) =>
      itemsOf(entries, results, (entry) => entryFields(entry, inputMask)),
  },
  batchDeleteEntry: {
    items: ({ ids }, { results }) => itemsOf(ids, results, (id) => ({ entry_id: id })),
  },
  getAuthorizedEntries: {},
  syncAuthorizedEntries: {},
});

function entryFields(entry: Entry, mask?: EntryMask): LogFields {
  const fields: LogFields = {
    spiffeId: { spiffe_id: anyId(entry.spiffeId) },
    parentId: { parent_id: anyId(entry.parentId) },
    selectors: { selectors: selectorsText(entry.selectors) || undefined },
    x509SvidTtl: { x509_svid_ttl: entry.x509SvidTtl },
    jwtSvidTtl: { jwt_svid_ttl: entry.jwtSvidTtl },
    federatesWith: { federates_with: entry.federatesWith.join(",") || undefined },
    admin: { admin: entry.admin },
    downstream: { downstream: entry.downstream },
    expiresAt: { expires_at: entry.expiresAt },
    dnsNames: { dns_name: entry.dnsNames.join(",") || undefined },
    revisionNumber: { revision_number: entry.revisionNumber },
    storeSvid: { store_svid: entry.storeSvid },
    hint: { hint: entry.hint },
    createdAt: { created_at: entry.createdAt },
  } satisfies Partial<Record<keyof EntryMask, LogFields>>;
  const named = Object.entries(fields).filter(([name]) => !mask || mask[name as keyof EntryMask]);
  return Object.assign({ entry_id: entry.id || undefined }, ...named.map(([, field]) => field));
}

const anyId = (id: SPIFFEID | undefined): string | undefined =>
  id && readable(() => makeSpiffeId(parseTrustDomainOrId(id.trustDomain), id.path));

function filterFields(filter: ListEntriesRequest_Filter | undefined, { registry }: AuditContext): LogFields {
  if (!filter) return {};
  const { bySelectors, byFederatesWith, byParentId, bySpiffeId } = filter;
  const { trustDomain } = registry;
  return {
    hint: filter.byHint,
    parent_id: byParentId && readable(() => memberIdFrom(byParentId, trustDomain, "")),
    spiffe_id: bySpiffeId && readable(() => workloadIdFrom(bySpiffeId, trustDomain, "")),
    ...(bySelectors && {
      by_selector_match: nameOf(SelectorMatch_MatchBehavior, bySelectors.match),
      by_selectors: selectorsText(bySelectors.selectors),
    }),
    ...(byFederatesWith && {
      federates_with_match: nameOf(FederatesWithMatch_MatchBehavior, byFederatesWith.match),
      federates_with: byFederatesWith.trustDomains.join(","),
    }),
    downstream: filter.byDownstream,
  };
}
