/** Entries that a user asks for when starting an instance: by option, or none and then one for the user. */
import { draftEntry, type EntryDraft } from "../../core/entry.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import { parseSelector, type Selector, sortSelectors } from "../../core/selector.ts";
import {
  isReserved,
  makeSpiffeId,
  parseSpiffeId,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from "../../core/spiffe-id.ts";

/** Whose entries these are: what is left out of them is taken from here. */
export interface EntryOwner {
  readonly trustDomain: TrustDomain;
  /** The dev agent; parent of entries that name none. */
  readonly agentId: SpiffeId;
}

/**
 * An entry with defaults for all that is not said. The ID is a UUID of version 7: a workload's default identity
 * is the one whose entry ID sorts first, and so it is the one that was declared first.
 */
export function declareEntry(
  spiffeId: SpiffeId,
  selectors: readonly Selector[],
  owner: EntryOwner,
): EntryDraft {
  return draftEntry({
    id: Bun.randomUUIDv7(),
    spiffeId,
    parentId: owner.agentId,
    selectors: sortSelectors(selectors),
  });
}

/** Takes a whole SPIFFE ID or a path in the trust domain. @throws SpireError INVALID_ARGUMENT. */
export function resolveId(text: string, trustDomain: TrustDomain): SpiffeId {
  if (text === "") throw invalidArgument("SPIFFE ID is empty");
  const id = text.includes("://")
    ? parseSpiffeId(text)
    : makeSpiffeId(trustDomain, text.startsWith("/") ? text : `/${text}`);
  if (trustDomainOf(id) !== trustDomain) {
    throw invalidArgument(`"${id}" is not in trust domain "${trustDomain}"`);
  }
  return id;
}

/** As `resolveId`, for an ID that a workload may have. @throws SpireError INVALID_ARGUMENT. */
export function resolveWorkloadId(text: string, trustDomain: TrustDomain): SpiffeId {
  const id = resolveId(text, trustDomain);
  if (pathOf(id) === "") throw invalidArgument(`"${id}" has no path`);
  if (isReserved(id)) throw invalidArgument(`"${id}" is reserved: /spire and what is below belongs to SPIRE`);
  return id;
}

/** Reads `ID=selector[,selector]`. @throws SpireError INVALID_ARGUMENT with the option's text. */
export function parseEntryOption(text: string, owner: EntryOwner): EntryDraft {
  try {
    const equals = text.indexOf("=");
    if (equals < 0) throw invalidArgument("must be formatted as ID=selector[,selector]");
    const selectors = text
      .slice(equals + 1)
      .split(",")
      .map(parseSelector);
    return declareEntry(resolveWorkloadId(text.slice(0, equals), owner.trustDomain), selectors, owner);
  } catch (error) {
    throw SpireError.from(error).within(`--entry "${text}"`);
  }
}

/** `spiffe://<td>/<user name>` by uid; `uid-<n>` where the name is missing or can't be a path of a workload. */
export function userEntry(user: { uid: number; name: string | undefined }, owner: EntryOwner): EntryDraft {
  const selectors = [{ type: "unix", value: `uid:${user.uid}` }];
  const path = isWorkloadPath(`/${user.name ?? ""}`, owner.trustDomain)
    ? `/${user.name}`
    : `/uid-${user.uid}`;
  return declareEntry(makeSpiffeId(owner.trustDomain, path), selectors, owner);
}

function isWorkloadPath(path: string, trustDomain: TrustDomain): boolean {
  try {
    return !path.slice(1).includes("/") && !isReserved(makeSpiffeId(trustDomain, path));
  } catch {
    return false;
  }
}
