/** Registration entries between messages and the domain, with their masks and filters. */

import { validateDnsName } from "../../core/dns-name.ts";
import type { Entry, EntryDraft } from "../../core/entry.ts";
import { invalidArgument } from "../../core/errors.ts";
import type { Selector } from "../../core/selector.ts";
import { parseTrustDomainOrId, type SpiffeId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { EntryFilter, EntryUpdate, SelectorFilter } from "../../plugins/datastores/index.ts";
import type { ListEntriesRequest_Filter } from "../../rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { EntryMask, Entry as EntryMessage } from "../../rpc/gen/spire/api/types/entry.ts";
import type { FederatesWithMatch } from "../../rpc/gen/spire/api/types/federateswith.ts";
import type { SelectorMatch } from "../../rpc/gen/spire/api/types/selector.ts";
import { toMatch, toSelectorFilter } from "./convert-filter.ts";
import { memberIdFrom, toIdMessage, within, workloadIdFrom } from "./convert-id.ts";

export interface EntryConverter {
  /** The entry as a message; only what the mask names, all without one. The result is shared: don't change it. */
  toMessage(entry: Entry, mask?: EntryMask): EntryMessage;
}

/** Masks whose results are remembered; agents all send the same one. */
const rememberedMasks = 8;

/** Converts each entry once per mask: the registry replaces an entry that changes, so its object is the key. */
export function createEntryConverter(): EntryConverter {
  const byMask = new Map<string, WeakMap<Entry, EntryMessage>>();
  const allFields = new WeakMap<Entry, EntryMessage>();

  function resultsFor(mask: EntryMask | undefined): WeakMap<Entry, EntryMessage> | undefined {
    if (!mask) return allFields;
    const key = maskedFields.map((field) => (mask[field] ? "1" : "0")).join("");
    let results = byMask.get(key);
    if (!results && byMask.size < rememberedMasks) {
      results = new WeakMap();
      byMask.set(key, results);
    }
    return results;
  }

  return {
    toMessage(entry, mask) {
      const results = resultsFor(mask);
      const known = results?.get(entry);
      if (known) return known;
      const message = mask ? applyMask(convert(entry), mask) : convert(entry);
      results?.set(entry, message);
      return message;
    },
  };
}

const noFields: EntryMessage = {
  id: "",
  spiffeId: undefined,
  parentId: undefined,
  selectors: [],
  x509SvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  revisionNumber: 0,
  storeSvid: false,
  jwtSvidTtl: 0,
  hint: "",
  createdAt: 0,
};

const convert = (entry: Entry): EntryMessage => ({
  id: entry.id,
  spiffeId: toIdMessage(entry.spiffeId),
  parentId: toIdMessage(entry.parentId),
  selectors: entry.selectors.map(({ type, value }) => ({ type, value })),
  x509SvidTtl: entry.x509SvidTtl,
  federatesWith: [...entry.federatesWith],
  admin: entry.admin,
  downstream: entry.downstream,
  expiresAt: entry.expiresAt,
  dnsNames: [...entry.dnsNames],
  revisionNumber: entry.revisionNumber,
  storeSvid: entry.storeSvid,
  jwtSvidTtl: entry.jwtSvidTtl,
  hint: entry.hint,
  createdAt: entry.createdAt,
  ...(entry.disableX509SvidPrefetch || entry.jwtSvidIncludeJti
    ? {
        additionalAttributes: {
          disableX509SvidPrefetch: entry.disableX509SvidPrefetch,
          jwtSvidIncludeJti: entry.jwtSvidIncludeJti,
        },
      }
    : {}),
});

const maskedFields = [
  "spiffeId",
  "parentId",
  "selectors",
  "x509SvidTtl",
  "federatesWith",
  "admin",
  "downstream",
  "expiresAt",
  "dnsNames",
  "revisionNumber",
  "storeSvid",
  "jwtSvidTtl",
  "hint",
  "createdAt",
  "additionalAttributes",
] as const satisfies readonly (keyof EntryMask)[];

/** The ID is always kept. */
function applyMask(message: EntryMessage, mask: EntryMask): EntryMessage {
  const kept = maskedFields.filter((field) => mask[field]).map((field) => [field, message[field]] as const);
  return { ...noFields, id: message.id, ...Object.fromEntries(kept) };
}

/** @throws SpireError INVALID_ARGUMENT `failed to convert entry: …` for an ID that can't be; the rest is not judged. */
export const toEntryDraft = (message: EntryMessage, trustDomain: TrustDomain): EntryDraft =>
  within("failed to convert entry", () => ({
    id: message.id,
    parentId: parentIdOf(message, trustDomain),
    spiffeId: spiffeIdOf(message, trustDomain),
    dnsNames: dnsNamesOf(message),
    federatesWith: federatesWithOf(message),
    selectors: selectorsOf(message),
    x509SvidTtl: message.x509SvidTtl,
    jwtSvidTtl: message.jwtSvidTtl,
    admin: message.admin,
    downstream: message.downstream,
    expiresAt: message.expiresAt,
    storeSvid: message.storeSvid,
    hint: message.hint,
    ...attributesOf(message),
  }));

/** The fields to change: those in the mask, all without one. Errors as `toEntryDraft`. */
export function toEntryFields(
  message: EntryMessage,
  trustDomain: TrustDomain,
  mask: EntryMask | undefined,
): EntryUpdate["fields"] {
  if (!mask) {
    const { id: _, ...fields } = toEntryDraft(message, trustDomain);
    return fields;
  }
  return within("failed to convert entry", () => ({
    ...(mask.parentId ? { parentId: parentIdOf(message, trustDomain) } : {}),
    ...(mask.spiffeId ? { spiffeId: spiffeIdOf(message, trustDomain) } : {}),
    ...(mask.dnsNames ? { dnsNames: dnsNamesOf(message) } : {}),
    ...(mask.federatesWith ? { federatesWith: federatesWithOf(message) } : {}),
    ...(mask.selectors ? { selectors: selectorsOf(message) } : {}),
    ...(mask.x509SvidTtl ? { x509SvidTtl: message.x509SvidTtl } : {}),
    ...(mask.jwtSvidTtl ? { jwtSvidTtl: message.jwtSvidTtl } : {}),
    ...(mask.admin ? { admin: message.admin } : {}),
    ...(mask.downstream ? { downstream: message.downstream } : {}),
    ...(mask.expiresAt ? { expiresAt: message.expiresAt } : {}),
    ...(mask.storeSvid ? { storeSvid: message.storeSvid } : {}),
    ...(mask.hint ? { hint: message.hint } : {}),
    ...(mask.additionalAttributes ? attributesOf(message) : {}),
  }));
}

const parentIdOf = ({ parentId }: EntryMessage, trustDomain: TrustDomain): SpiffeId =>
  memberIdFrom(parentId, trustDomain, "invalid parent ID");

const selectorsOf = ({ selectors }: EntryMessage): Selector[] =>
  selectors.map(({ type, value }) => ({ type, value }));

const spiffeIdOf = ({ spiffeId }: EntryMessage, trustDomain: TrustDomain): SpiffeId =>
  workloadIdFrom(spiffeId, trustDomain, "invalid spiffe ID");

/** Judged here already, as SPIRE does: before the trust domains. */
const dnsNamesOf = ({ dnsNames }: EntryMessage): readonly string[] =>
  within("invalid DNS name", () => dnsNames.map(validateDnsName));

const federatesWithOf = ({ federatesWith }: EntryMessage): TrustDomain[] =>
  federatesWith.map((name) => within("invalid federated trust domain", () => parseTrustDomainOrId(name)));

const attributesOf = ({ additionalAttributes }: EntryMessage) => ({
  disableX509SvidPrefetch: additionalAttributes?.disableX509SvidPrefetch ?? false,
  jwtSvidIncludeJti: additionalAttributes?.jwtSvidIncludeJti ?? false,
});

/**
 * As in SPIRE an empty hint, and `false` for downstream, are no filter.
 * @throws SpireError INVALID_ARGUMENT naming the filter that is malformed.
 */
export function toEntryFilter(
  filter: ListEntriesRequest_Filter | undefined,
  trustDomain: TrustDomain,
): EntryFilter {
  if (!filter) return {};
  const { bySpiffeId, byParentId, bySelectors, byFederatesWith, byHint, byDownstream } = filter;
  return {
    ...(bySpiffeId
      ? { spiffeId: workloadIdFrom(bySpiffeId, trustDomain, "malformed SPIFFE ID filter") }
      : {}),
    ...(byParentId ? { parentId: memberIdFrom(byParentId, trustDomain, "malformed parent ID filter") } : {}),
    ...(bySelectors ? { selectors: entrySelectorFilter(bySelectors) } : {}),
    ...(byFederatesWith ? { federatesWith: federatesWithFilter(byFederatesWith) } : {}),
    ...(byHint ? { hint: byHint } : {}),
    ...(byDownstream ? { downstream: true } : {}),
  };
}

const entrySelectorFilter = (match: SelectorMatch): SelectorFilter =>
  within("malformed selectors filter", () => {
    if (match.selectors.length === 0) throw invalidArgument("empty selector set");
    return toSelectorFilter(match);
  });

const federatesWithFilter = ({ trustDomains, match }: FederatesWithMatch) =>
  within("malformed federates with filter", () => {
    if (trustDomains.length === 0) throw invalidArgument("empty trust domain set");
    return { trustDomains: trustDomains.map(parseTrustDomainOrId), match: toMatch(match) };
  });
