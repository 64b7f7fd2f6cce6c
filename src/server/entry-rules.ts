/** What a registration entry may hold, with SPIRE's wording where SPIRE has the same rule. */
import { validateDnsName } from "../core/dns-name.ts";
import type { EntryDraft } from "../core/entry.ts";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { formatSelector, type Selector, validateSelector } from "../core/selector.ts";
import {
  isAgentId,
  isReserved,
  parseTrustDomain,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from "../core/spiffe-id.ts";

/** @throws SpireError INVALID_ARGUMENT unless the ID lies in the trust domain and has a path. */
export function requireMember(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  requireSameDomain(id, trustDomain);
  if (pathOf(id) !== "") return id;
  throw invalidArgument(`"${id}" is not a member of trust domain "${trustDomain}"; path is empty`);
}

function requireSameDomain(id: SpiffeId, trustDomain: TrustDomain): void {
  if (trustDomainOf(id) === trustDomain) return;
  throw invalidArgument(`"${id}" is not a member of trust domain "${trustDomain}"`);
}

/** @throws SpireError INVALID_ARGUMENT unless the ID may be an agent's in the trust domain. */
export function requireAgent(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  requireSameDomain(id, trustDomain);
  const refuse = (why: string) =>
    invalidArgument(`"${id}" is not an agent in trust domain "${trustDomain}"; ${why}`);
  if (pathOf(id) === "") throw refuse("path is empty");
  if (!isAgentId(id)) throw refuse("path is not in the agent namespace");
  return id;
}

/** @throws SpireError INVALID_ARGUMENT unless the ID may be a workload's: a member with a path, not SPIRE's own. */
export function requireWorkload(id: SpiffeId, trustDomain: TrustDomain): SpiffeId {
  requireSameDomain(id, trustDomain);
  const refuse = (why: string) =>
    invalidArgument(`"${id}" is not a workload in trust domain "${trustDomain}"; ${why}`);
  if (pathOf(id) === "") throw refuse("path is empty");
  if (isReserved(id)) throw refuse("path is in the reserved namespace");
  return id;
}

export interface EntryRules {
  readonly trustDomain: TrustDomain;
  /** Unix seconds. */
  readonly now: number;
  readonly operation: "create" | "update";
}

/** The fields of a draft that are given; an update gives some of them. */
export type EntryFields = Partial<EntryDraft>;

const longestId = 255;
const longestHintBytes = 1024;

/**
 * Checks each given field by itself.
 * @throws SpireError INVALID_ARGUMENT, or ALREADY_EXISTS for a doubled selector or DNS name, with the item's
 * whole status text.
 */
export function checkFields(fields: EntryFields, rules: EntryRules): void {
  inContext("failed to convert entry", () => checkMeaning(fields, rules));
  checkEach(fields, rules);
}

/** All checks of a new entry, in SPIRE's order. @throws SpireError as `checkFields` and `checkTogether`. */
export function checkDraft(draft: EntryDraft, rules: EntryRules): void {
  inContext("failed to convert entry", () => checkMeaning(draft, rules));
  checkTogether(draft, rules);
  checkEach(draft, rules);
}

function checkEach(fields: EntryFields, rules: EntryRules): void {
  inContext(`failed to ${rules.operation} entry: datastore-validation: invalid registration entry`, () =>
    checkLimits(fields),
  );
  inContext(`failed to ${rules.operation} entry`, () => {
    requireDistinct("selector", (fields.selectors ?? []).map(formatSelector));
    requireDistinct("DNS name", fields.dnsNames ?? []);
  });
}

/**
 * Checks fields against each other, once all of them are known.
 * @throws SpireError INVALID_ARGUMENT with the item's whole status text.
 */
export function checkTogether(
  draft: Pick<EntryDraft, "storeSvid" | "selectors" | "disableX509SvidPrefetch">,
  { operation }: EntryRules,
): void {
  if (!draft.storeSvid) return;
  inContext(`failed to ${operation} entry: datastore-validation`, () => {
    if (draft.disableX509SvidPrefetch) {
      throw invalidArgument("specifying cache behaviour is incompatible with storable SVIDs");
    }
    if (new Set(draft.selectors.map(({ type }) => type)).size > 1) {
      const rule = "selector types must be the same when store SVID is enabled";
      throw invalidArgument(`invalid registration entry: ${rule}`);
    }
  });
}

function checkMeaning(fields: EntryFields, { trustDomain, now }: EntryRules): void {
  const { parentId, spiffeId, selectors, dnsNames, federatesWith, expiresAt, hint } = fields;
  if (parentId !== undefined) inContext("invalid parent ID", () => requireMember(parentId, trustDomain));
  if (spiffeId !== undefined) inContext("invalid spiffe ID", () => requireWorkload(spiffeId, trustDomain));
  for (const name of dnsNames ?? []) inContext("invalid DNS name", () => validateDnsName(name));
  for (const other of federatesWith ?? []) {
    inContext("invalid federated trust domain", () => checkFederation(other, trustDomain));
  }
  if (selectors !== undefined) checkSelectors(selectors);
  if (expiresAt !== undefined) checkExpiry(expiresAt, now);
  if (hint !== undefined && Buffer.byteLength(hint) > longestHintBytes) {
    throw invalidArgument(`hint is too long, max length is ${longestHintBytes} characters`);
  }
}

function checkSelectors(selectors: readonly Selector[]): void {
  if (selectors.length === 0) throw invalidArgument("selector list is empty");
  for (const selector of selectors) validateSelector(selector);
}

/** Stock SPIRE accepts the own trust domain, and every later sync of the entry's agents fails on it. */
function checkFederation(other: TrustDomain, trustDomain: TrustDomain): void {
  parseTrustDomain(other);
  if (other === trustDomain) {
    throw invalidArgument(`"${other}" is the server's own trust domain, which every workload trusts already`);
  }
}

/** Stock SPIRE accepts both and prunes the entry within minutes. */
function checkExpiry(expiresAt: number, now: number): void {
  if (!Number.isSafeInteger(expiresAt) || expiresAt < 0) throw invalidArgument("expiry is below zero");
  if (expiresAt !== 0 && expiresAt <= now) throw invalidArgument("expiry is in the past");
}

function checkLimits({ id, x509SvidTtl, jwtSvidTtl }: EntryFields): void {
  if (id !== undefined && id.length > longestId) throw invalidArgument("entry ID too long");
  if (id !== undefined && !/^[A-Za-z0-9._-]*$/.test(id)) {
    throw invalidArgument("entry ID contains invalid characters");
  }
  if (x509SvidTtl !== undefined && x509SvidTtl < 0) throw invalidArgument("X509SvidTtl is not set");
  if (jwtSvidTtl !== undefined && jwtSvidTtl < 0) throw invalidArgument("JwtSvidTtl is not set");
}

function requireDistinct(what: string, values: readonly string[]): void {
  const seen = new Set<string>();
  for (const value of values) {
    if (seen.has(value)) throw new SpireError("ALREADY_EXISTS", `${what} "${value}" is given twice`);
    seen.add(value);
  }
}

function inContext<T>(context: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
