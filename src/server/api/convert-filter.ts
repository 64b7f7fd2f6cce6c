/** What list filters share: sets of selectors and how they match, pages, and failures to list. */
import { invalidArgument, SpireError } from "../../core/errors.ts";
import { type SetMatch, sortSelectors, validateSelector } from "../../core/selector.ts";
import type { PageRequest, SelectorFilter } from "../../plugins/datastores/index.ts";
import type { SelectorMatch } from "../../rpc/gen/spire/api/types/selector.ts";

/** `MatchBehavior` of SelectorMatch and FederatesWithMatch, by number. */
const matches: readonly SetMatch[] = ["exact", "subset", "superset", "any"];

/** @throws SpireError INVALID_ARGUMENT for a number that the API doesn't know. */
export function toMatch(behavior: number): SetMatch {
  const match = matches[behavior];
  if (match === undefined) throw invalidArgument(`unknown match behavior ${behavior}`);
  return match;
}

/** @throws SpireError INVALID_ARGUMENT for a malformed selector. */
export const toSelectorFilter = ({ selectors, match }: SelectorMatch): SelectorFilter => ({
  selectors: sortSelectors(selectors.map(validateSelector)),
  match: toMatch(match),
});

/** A size below 1 asks for everything; SPIRE then looks at no token. */
export const toPageRequest = (message: { pageSize: number; pageToken: string }): PageRequest =>
  message.pageSize > 0 ? { size: message.pageSize, token: message.pageToken } : { size: 0, token: "" };

/** Awaits a listing; a failure, also one over the caller's page token, is INTERNAL `<failure> …` as in SPIRE. */
export async function listing<T>(failure: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const { message } = SpireError.from(error);
    throw new SpireError("INTERNAL", `${failure} ${message}`, { cause: error });
  }
}
