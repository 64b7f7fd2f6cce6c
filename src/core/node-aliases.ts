/** Which nodes fulfil which node aliases: entries with parent `/spire/server` whose selectors a node has. */
import type { Entry } from "./entry.ts";
import type { AttestedNode } from "./node.ts";
import { formatSelector, selectorSetKey } from "./selector.ts";
import { pathOf, type SpiffeId } from "./spiffe-id.ts";
import { createSubsetIndex } from "./subset-index.ts";

const serverPath = "/spire/server";

export const isNodeAlias = ({ parentId }: Entry): boolean =>
  parentId.endsWith(serverPath) && pathOf(parentId) === serverPath;

export interface NodeAliases {
  putEntry(alias: Entry): void;
  deleteEntry(alias: Entry): void;
  /** Adds or replaces; whether that may have changed the aliases that the node goes by. */
  putNode(node: AttestedNode): boolean;
  deleteNode(id: SpiffeId): void;
  /** The alias IDs that a node goes by. */
  aliasesOf(node: SpiffeId): ReadonlySet<SpiffeId>;
  /** The nodes that go by an alias ID. */
  nodesOf(alias: SpiffeId): ReadonlySet<SpiffeId>;
  /** The nodes that fulfil one alias entry; a live set. */
  nodesOfEntry(entryId: string): ReadonlySet<SpiffeId>;
}

interface KnownNode {
  readonly selectorKey: string;
  readonly selectors: ReadonlySet<string>;
  readonly fulfilled: Set<string>;
}

interface KnownAlias {
  readonly spiffeId: SpiffeId;
  readonly nodes: Set<SpiffeId>;
}

const noIds: ReadonlySet<SpiffeId> = new Set();
const noEntries: ReadonlySet<string> = new Set();

export function createNodeAliases(): NodeAliases {
  const nodes = new Map<SpiffeId, KnownNode>();
  const aliases = new Map<string, KnownAlias>();
  const entriesOf = new Map<SpiffeId, Set<string>>();
  /** Nodes by each of their selectors, to find those that fulfil a new alias. */
  const nodesBySelector = new Map<string, Set<SpiffeId>>();
  /** Aliases by their selectors, to find those that a new node fulfils. */
  const aliasSelectors = createSubsetIndex<string>();

  function nodesWith(selectors: readonly string[]): SpiffeId[] {
    const sets = selectors.map((selector) => nodesBySelector.get(selector) ?? noIds);
    const smallest = sets.reduce((best, set) => (set.size < best.size ? set : best), sets[0] ?? noIds);
    return [...smallest].filter((node) => sets.every((set) => set.has(node)));
  }

  function deleteEntry({ id }: Entry): void {
    const alias = aliases.get(id);
    if (!alias) return;
    aliases.delete(id);
    aliasSelectors.delete(id);
    for (const node of alias.nodes) nodes.get(node)?.fulfilled.delete(id);
    const siblings = entriesOf.get(alias.spiffeId);
    siblings?.delete(id);
    if (siblings?.size === 0) entriesOf.delete(alias.spiffeId);
  }

  function deleteNode(id: SpiffeId): void {
    const node = nodes.get(id);
    if (!node) return;
    nodes.delete(id);
    for (const entryId of node.fulfilled) aliases.get(entryId)?.nodes.delete(id);
    for (const selector of node.selectors) {
      const sharing = nodesBySelector.get(selector);
      sharing?.delete(id);
      if (sharing?.size === 0) nodesBySelector.delete(selector);
    }
  }

  return {
    putEntry(alias) {
      deleteEntry(alias);
      const selectors = alias.selectors.map(formatSelector);
      const fulfilling = nodesWith(selectors);
      aliases.set(alias.id, { spiffeId: alias.spiffeId, nodes: new Set(fulfilling) });
      aliasSelectors.put(alias.id, selectors);
      for (const node of fulfilling) nodes.get(node)?.fulfilled.add(alias.id);
      addTo(entriesOf, alias.spiffeId, alias.id);
    },
    deleteEntry,
    putNode({ id, selectors }) {
      const selectorKey = selectorSetKey(selectors);
      const known = nodes.get(id);
      if (known?.selectorKey === selectorKey) return false;
      deleteNode(id);
      const keys = new Set(selectors.map(formatSelector));
      const fulfilled = new Set(aliasSelectors.within(keys));
      nodes.set(id, { selectorKey, selectors: keys, fulfilled });
      for (const selector of keys) addTo(nodesBySelector, selector, id);
      for (const entryId of fulfilled) aliases.get(entryId)?.nodes.add(id);
      return fulfilled.size > 0 || (known?.fulfilled.size ?? 0) > 0;
    },
    deleteNode,
    aliasesOf(node) {
      const fulfilled = nodes.get(node)?.fulfilled;
      if (!fulfilled || fulfilled.size === 0) return noIds;
      return new Set([...fulfilled].flatMap((entryId) => aliases.get(entryId)?.spiffeId ?? []));
    },
    nodesOf(alias) {
      const found = new Set<SpiffeId>();
      for (const entryId of entriesOf.get(alias) ?? noEntries) {
        for (const node of aliases.get(entryId)?.nodes ?? noIds) found.add(node);
      }
      return found;
    },
    nodesOfEntry: (entryId) => aliases.get(entryId)?.nodes ?? noIds,
  };
}

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set) set.add(value);
  else sets.set(key, new Set([value]));
}
