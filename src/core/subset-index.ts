/** Finds the stored sets that lie within a given set, without looking at the others. */

export interface SubsetIndex<Id> {
  /** Adds or replaces the set of `id`. Keys must be distinct; an empty set lies within none. */
  put(id: Id, keys: readonly string[]): void;
  delete(id: Id): void;
  /** The IDs whose whole set is among `keys`, in no particular order. */
  within(keys: ReadonlySet<string>): Id[];
}

/** All IDs with the same set. */
interface Group<Id> {
  readonly keys: readonly string[];
  readonly setKey: string;
  readonly ids: Set<Id>;
  /** The one key under which the group is found. */
  readonly home: string;
}

/**
 * Each distinct set lives under one of its keys, the one that fewest other sets live under. A set within the
 * given one has all its keys there, so it is found by looking under each given key.
 */
export function createSubsetIndex<Id>(): SubsetIndex<Id> {
  const groups = new Map<string, Group<Id>>();
  const groupOf = new Map<Id, Group<Id>>();
  const homes = new Map<string, Set<Group<Id>>>();

  const crowd = (key: string) => homes.get(key)?.size ?? 0;

  function addGroup(keys: readonly string[], setKey: string, first: string): Group<Id> {
    const home = keys.reduce((best, key) => (crowd(key) < crowd(best) ? key : best), first);
    const group: Group<Id> = { keys, setKey, ids: new Set(), home };
    groups.set(setKey, group);
    const neighbours = homes.get(home);
    if (neighbours) neighbours.add(group);
    else homes.set(home, new Set([group]));
    return group;
  }

  function remove(id: Id): void {
    const group = groupOf.get(id);
    if (!group) return;
    groupOf.delete(id);
    group.ids.delete(id);
    if (group.ids.size > 0) return;
    groups.delete(group.setKey);
    const neighbours = homes.get(group.home);
    neighbours?.delete(group);
    if (neighbours?.size === 0) homes.delete(group.home);
  }

  return {
    put(id, keys) {
      const sorted = [...keys].sort();
      const setKey = JSON.stringify(sorted);
      if (groupOf.get(id)?.setKey === setKey) return;
      remove(id);
      const first = sorted[0];
      if (first === undefined) return;
      const group = groups.get(setKey) ?? addGroup(sorted, setKey, first);
      group.ids.add(id);
      groupOf.set(id, group);
    },
    delete: remove,
    within(keys) {
      const found: Id[] = [];
      for (const key of keys) {
        for (const group of homes.get(key) ?? []) {
          if (!group.keys.every((member) => keys.has(member))) continue;
          for (const id of group.ids) found.push(id);
        }
      }
      return found;
    },
  };
}
