/** Filters that listing commands share: selectors, federated trust domains, and how sets are compared. */
import { invalidArgument } from "../core/errors.ts";
import { FederatesWithMatch_MatchBehavior } from "../rpc/gen/spire/api/types/federateswith.ts";
import { SelectorMatch_MatchBehavior } from "../rpc/gen/spire/api/types/selector.ts";
import { quote } from "./go-text.ts";

export const selectorMatches = {
  exact: SelectorMatch_MatchBehavior.MATCH_EXACT,
  any: SelectorMatch_MatchBehavior.MATCH_ANY,
  superset: SelectorMatch_MatchBehavior.MATCH_SUPERSET,
  subset: SelectorMatch_MatchBehavior.MATCH_SUBSET,
} as const;

export const federationMatches = {
  exact: FederatesWithMatch_MatchBehavior.MATCH_EXACT,
  any: FederatesWithMatch_MatchBehavior.MATCH_ANY,
  superset: FederatesWithMatch_MatchBehavior.MATCH_SUPERSET,
  subset: FederatesWithMatch_MatchBehavior.MATCH_SUBSET,
} as const;

/** The words that both know. */
export const matchNames: readonly string[] = Object.keys(selectorMatches);

/** The message value of `exact`, `any`, `superset` or `subset`. @throws SpireError INVALID_ARGUMENT. */
export function parseMatch<T>(text: string, matches: Readonly<Record<string, T>>): T {
  const match = Object.hasOwn(matches, text) ? matches[text] : undefined;
  if (match === undefined) throw invalidArgument(`match behavior ${quote(text)} unknown`);
  return match;
}
