/** Selectors: properties of a node or a workload that registration entries match on. */
import { invalidArgument } from "./errors.ts";

export interface Selector {
  /** The attestor that vouches for it, such as `unix`; never contains a colon. */
  readonly type: string;
  readonly value: string;
}

/** `type:value`; unique, because a type has no colon. */
export const formatSelector = ({ type, value }: Selector): string => `${type}:${value}`;

/** Splits at the first colon, as SPIRE's commands do. @throws SpireError INVALID_ARGUMENT. */
export function parseSelector(text: string): Selector {
  const colon = text.indexOf(":");
  if (colon < 0) throw invalidArgument(`selector "${text}" must be formatted as type:value`);
  return validateSelector({ type: text.slice(0, colon), value: text.slice(colon + 1) });
}

/** @throws SpireError INVALID_ARGUMENT with SPIRE's text. */
export function validateSelector(selector: Selector): Selector {
  if (selector.type === "") throw invalidArgument("missing selector type");
  if (selector.type.includes(":")) throw invalidArgument("selector type contains ':'");
  if (selector.value === "") throw invalidArgument("missing selector value");
  return selector;
}

/** Each once, in the order given. */
export function uniqueSelectors(selectors: Iterable<Selector>): Selector[] {
  const unique = new Map<string, Selector>();
  for (const selector of selectors) unique.set(formatSelector(selector), selector);
  return [...unique.values()];
}

/** Ordered by type, then value, each once. */
export const sortSelectors = (selectors: Iterable<Selector>): Selector[] =>
  uniqueSelectors(selectors).sort((a, b) => compare(a.type, b.type) || compare(a.value, b.value));

/** One text for a set of selectors, whatever their order: equal exactly when the sets are equal. */
export const selectorSetKey = (selectors: Iterable<Selector>): string =>
  JSON.stringify(sortSelectors(selectors).map(formatSelector));

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** How a filter's set relates to a stored one: the stored set equals, is inside, contains or meets the filter's. */
export type SetMatch = "exact" | "subset" | "superset" | "any";

/** Whether `stored` matches `filter` in the sense of SPIRE's list filters; both are sets of keys. */
export function matchesSet(
  stored: ReadonlySet<string>,
  filter: ReadonlySet<string>,
  match: SetMatch,
): boolean {
  switch (match) {
    case "exact":
      return stored.size === filter.size && stored.isSubsetOf(filter);
    case "subset":
      return stored.isSubsetOf(filter) && stored.size > 0;
    case "superset":
      return stored.isSupersetOf(filter);
    case "any":
      return !stored.isDisjointFrom(filter);
  }
}
