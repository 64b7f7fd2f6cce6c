/** Which entries each agent owns: an in-memory index that follows single changes and answers without a scan. */
import type { Entry } from "./entry.ts";
import type { AttestedNode } from "./node.ts";
import { createNodeAliases, isNodeAlias } from "./node-aliases.ts";
import { isAgentId, type SpiffeId, type TrustDomain } from "./spiffe-id.ts";

/**
 * An agent owns every entry that descends from its ID (an entry's children are those whose parent is its
 * SPIFFE ID) and from each node alias that its node selectors fulfil. A node alias is an entry whose parent is
 * `/spire/server`; it is never delivered itself.
 */
export interface AuthorizedEntries {
  /** Adds or replaces; returns the agents that owned the entry before or own it now. */
  putEntry(entry: Entry): ReadonlySet<SpiffeId>;
  /** Returns the agents that owned the entry; for a node alias, those that fulfilled it. */
  deleteEntry(id: string): ReadonlySet<SpiffeId>;
  putNode(node: AttestedNode): void;
  deleteNode(id: SpiffeId): void;
  /** Everything the agent owns, ordered by entry ID. The array is shared: it must not be changed. */
  forAgent(agentId: SpiffeId): readonly Entry[];
  /** The entry, if the agent owns it. */
  lookup(agentId: SpiffeId, entryId: string): Entry | undefined;
  /** The agents that own the entry; for a node alias, those that fulfil it. */
  agentsOf(entryId: string): ReadonlySet<SpiffeId>;
  /** The agents that own an entry which federates with the trust domain. */
  agentsFederatingWith(trustDomain: TrustDomain): ReadonlySet<SpiffeId>;
  entry(id: string): Entry | undefined;
  /** All entries that grant this SPIFFE ID, as admin and downstream callers are looked up. */
  entriesBySpiffeId(id: SpiffeId): readonly Entry[];
  node(id: SpiffeId): AttestedNode | undefined;
  entryIds(): Iterable<string>;
  nodeIds(): Iterable<SpiffeId>;
  readonly entryCount: number;
  readonly nodeCount: number;
}

const nobody: ReadonlySet<SpiffeId> = new Set();

export function createAuthorizedEntries(): AuthorizedEntries {
  const entries = new Map<string, Entry>();
  const nodes = new Map<SpiffeId, AttestedNode>();
  const aliases = createNodeAliases();
  /** Node aliases are not among the children. */
  const childrenOf = createMultimap<SpiffeId, Entry>();
  const bySpiffeId = createMultimap<SpiffeId, Entry>();
  /** The same without node aliases, as edges: SPIFFE ID to the parents that grant it. */
  const parentsOf = createEdges<SpiffeId>();
  const byFederation = createMultimap<TrustDomain, Entry>();
  const owners = createOwners();
  const owned = createOwnedCache();

  /** Who owns what hangs below an ID, remembered until the structure above it changes. */
  function createOwners() {
    const known = new Map<SpiffeId, ReadonlySet<SpiffeId>>();
    return {
      of(id: SpiffeId): ReadonlySet<SpiffeId> {
        let set = known.get(id);
        if (!set) {
          set = findOwners(id);
          known.set(id, set);
        }
        return set;
      },
      /** The entry came, went or changed. Only one with children or of an alias matters to more than its own ID. */
      forget(entry: Entry): void {
        if (isNodeAlias(entry) || childrenOf.has(entry.spiffeId)) known.clear();
        else known.delete(entry.spiffeId);
      },
      forgetAll: () => known.clear(),
    };
  }

  /** Walks from an ID up through the entries that grant it. */
  function findOwners(start: SpiffeId): ReadonlySet<SpiffeId> {
    const agents = new Set<SpiffeId>();
    const seen = new Set([start]);
    for (const id of seen) {
      if (isAgentId(id)) agents.add(id);
      for (const node of aliases.nodesOf(id)) agents.add(node);
      for (const parent of parentsOf.get(id).keys()) seen.add(parent);
    }
    return agents;
  }

  const ownersOfEntry = (entry: Entry): ReadonlySet<SpiffeId> =>
    isNodeAlias(entry) ? new Set(aliases.nodesOfEntry(entry.id)) : owners.of(entry.parentId);

  function remove(entry: Entry): void {
    entries.delete(entry.id);
    bySpiffeId.delete(entry.spiffeId, entry);
    for (const trustDomain of entry.federatesWith) byFederation.delete(trustDomain, entry);
    if (isNodeAlias(entry)) aliases.deleteEntry(entry);
    else {
      childrenOf.delete(entry.parentId, entry);
      parentsOf.delete(entry.spiffeId, entry.parentId);
    }
    owners.forget(entry);
  }

  function add(entry: Entry): void {
    entries.set(entry.id, entry);
    bySpiffeId.add(entry.spiffeId, entry);
    for (const trustDomain of entry.federatesWith) byFederation.add(trustDomain, entry);
    if (isNodeAlias(entry)) aliases.putEntry(entry);
    else {
      childrenOf.add(entry.parentId, entry);
      parentsOf.add(entry.spiffeId, entry.parentId);
    }
    owners.forget(entry);
  }

  /** Walks from an agent down. Adding to a set while iterating over it visits what was added, once. */
  function collect(agentId: SpiffeId): readonly Entry[] {
    const found: Entry[] = [];
    const seen = new Set([agentId, ...aliases.aliasesOf(agentId)]);
    for (const id of seen) {
      for (const child of childrenOf.get(id)) {
        found.push(child);
        seen.add(child.spiffeId);
      }
    }
    return found.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Whether `agentId` is above an entry. Asks each ancestor for the agent by name before going through them. */
  function owns(agentId: SpiffeId, entry: Entry): boolean {
    const seen = new Set([entry.parentId]);
    const names = aliases.aliasesOf(agentId);
    for (const id of seen) {
      if (id === agentId || names.has(id)) return true;
      const parents = parentsOf.get(id);
      if (parents.has(agentId)) return true;
      for (const parent of parents.keys()) seen.add(parent);
    }
    return false;
  }

  return {
    putEntry(entry) {
      const old = entries.get(entry.id);
      const before = old ? ownersOfEntry(old) : nobody;
      if (old) remove(old);
      add(entry);
      const concerned = union(before, ownersOfEntry(entry));
      owned.invalidate(concerned);
      return concerned;
    },
    deleteEntry(id) {
      const entry = entries.get(id);
      if (!entry) return nobody;
      const concerned = ownersOfEntry(entry);
      remove(entry);
      owned.invalidate(concerned);
      return concerned;
    },
    putNode(node) {
      nodes.set(node.id, node);
      if (!aliases.putNode(node)) return;
      owners.forgetAll();
      owned.invalidate(new Set([node.id]));
    },
    deleteNode(id) {
      nodes.delete(id);
      aliases.deleteNode(id);
      owners.forgetAll();
      owned.invalidate(new Set([id]));
    },
    // Only agents are told of changes, so only their answers may be kept.
    forAgent: (agentId) => (isAgentId(agentId) ? owned.get(agentId, collect) : collect(agentId)),
    lookup(agentId, entryId) {
      const entry = entries.get(entryId);
      return entry && !isNodeAlias(entry) && owns(agentId, entry) ? entry : undefined;
    },
    agentsOf(entryId) {
      const entry = entries.get(entryId);
      return entry ? ownersOfEntry(entry) : nobody;
    },
    agentsFederatingWith(trustDomain) {
      const agents = new Set<SpiffeId>();
      const parents = new Set<SpiffeId>();
      for (const entry of byFederation.get(trustDomain)) if (!isNodeAlias(entry)) parents.add(entry.parentId);
      for (const parent of parents) for (const agent of owners.of(parent)) agents.add(agent);
      return agents;
    },
    entry: (id) => entries.get(id),
    entriesBySpiffeId: (id) => [...bySpiffeId.get(id)],
    node: (id) => nodes.get(id),
    entryIds: () => entries.keys(),
    nodeIds: () => nodes.keys(),
    get entryCount() {
      return entries.size;
    },
    get nodeCount() {
      return nodes.size;
    },
  };
}

/**
 * What was collected for each agent. Invalidation only notes the set of agents, because many changes in a row
 * concern the very same, possibly large set; it is applied when somebody asks.
 */
function createOwnedCache() {
  const results = new Map<SpiffeId, readonly Entry[]>();
  const outdated = new Set<ReadonlySet<SpiffeId>>();
  return {
    get(agentId: SpiffeId, collect: (agentId: SpiffeId) => readonly Entry[]): readonly Entry[] {
      for (const agents of outdated) for (const agent of agents) results.delete(agent);
      outdated.clear();
      let result = results.get(agentId);
      if (!result) {
        result = collect(agentId);
        results.set(agentId, result);
      }
      return result;
    },
    invalidate(agents: ReadonlySet<SpiffeId>): void {
      if (agents.size > 0 && results.size > 0) outdated.add(agents);
    },
  };
}

function union<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): ReadonlySet<T> {
  if (a === b || a.size === 0) return b;
  return b.size === 0 ? a : a.union(b);
}

/** A multimap in which the same pair may be added more than once and goes when it was deleted as often. */
function createEdges<T>() {
  const counts = new Map<T, Map<T, number>>();
  const none: ReadonlyMap<T, number> = new Map();
  return {
    /** The targets are the keys. */
    get: (from: T): ReadonlyMap<T, number> => counts.get(from) ?? none,
    add(from: T, to: T): void {
      const edges = counts.get(from) ?? new Map<T, number>();
      counts.set(from, edges);
      edges.set(to, (edges.get(to) ?? 0) + 1);
    },
    delete(from: T, to: T): void {
      const edges = counts.get(from);
      const count = edges?.get(to);
      if (!edges || count === undefined) return;
      if (count > 1) edges.set(to, count - 1);
      else edges.delete(to);
      if (edges.size === 0) counts.delete(from);
    },
  };
}

function createMultimap<K, V>() {
  const sets = new Map<K, Set<V>>();
  const none: ReadonlySet<V> = new Set();
  return {
    get: (key: K): ReadonlySet<V> => sets.get(key) ?? none,
    has: (key: K): boolean => sets.has(key),
    add(key: K, value: V): void {
      const set = sets.get(key);
      if (set) set.add(value);
      else sets.set(key, new Set([value]));
    },
    delete(key: K, value: V): void {
      const set = sets.get(key);
      if (set?.delete(value) && set.size === 0) sets.delete(key);
    },
  };
}
