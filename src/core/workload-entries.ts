/** Which of an agent's entries a workload matches: an index over selectors, and the rule about equal hints. */
import type { Entry } from "./entry.ts";
import { formatSelector, type Selector } from "./selector.ts";
import { createSubsetIndex } from "./subset-index.ts";

export interface WorkloadEntries {
  /** Adds or replaces by entry ID. */
  put(entry: Entry): void;
  delete(id: string): void;
  /** The entries all of whose selectors are among the given ones, ordered by entry ID. */
  match(selectors: readonly Selector[]): readonly Entry[];
  readonly size: number;
}

export function createWorkloadEntries(): WorkloadEntries {
  const entries = new Map<string, Entry>();
  const bySelectors = createSubsetIndex<string>();
  return {
    put(entry) {
      entries.set(entry.id, entry);
      bySelectors.put(entry.id, entry.selectors.map(formatSelector));
    },
    delete(id) {
      entries.delete(id);
      bySelectors.delete(id);
    },
    match(selectors) {
      const ids = bySelectors.within(new Set(selectors.map(formatSelector))).sort();
      return ids.flatMap((id) => entries.get(id) ?? []);
    },
    get size() {
      return entries.size;
    },
  };
}

/**
 * Of entries with the same non-empty hint only the oldest stays (equal age: the smaller ID), because a client
 * picks an identity by its hint. The order of the rest is kept.
 */
export function uniqueHints(entries: readonly Entry[]): readonly Entry[] {
  const first = new Map<string, Entry>();
  for (const entry of entries) {
    const other = first.get(entry.hint);
    if (!other || isBefore(entry, other)) first.set(entry.hint, entry);
  }
  return entries.filter((entry) => entry.hint === "" || first.get(entry.hint) === entry);
}

const isBefore = (a: Entry, b: Entry): boolean =>
  a.createdAt < b.createdAt || (a.createdAt === b.createdAt && a.id < b.id);
