/** The rules over entries, agents, bundles and join tokens, and the memory that follows what the store commits. */
import type { AuthorizedEntries } from "../core/authorized-entries.ts";
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Entry, EntryDraft } from "../core/entry.ts";
import { notFound } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import type { AttestedNode } from "../core/node.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { type Backoff, startTask } from "../core/tasks.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import type {
  BundleDeleteMode,
  CreateOutcome,
  EntryFilter,
  EntryUpdate,
  JoinToken,
  NodeFilter,
  Page,
  PageRequest,
  Store,
  UpdateOutcome,
} from "../plugins/datastores/index.ts";
import { createEntryWriter } from "./entries.ts";
import { createFollower, type RegistryChange } from "./follower.ts";
import { createJoinTokens, deleteAlias, type JoinTokenRequest } from "./join-tokens.ts";

export interface Registry {
  readonly trustDomain: TrustDomain;
  /** For reads and for what has no rules here (the CA journal). Writes to entries, nodes and bundles go through the registry. */
  readonly store: Store;
  /** Current when a write resolves: who has written reads it. */
  readonly index: AuthorizedEntries;

  /** Outcomes in order. Item messages are SPIRE's whole text, such as `failed to convert entry: …`. */
  createEntries(drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]>;
  updateEntries(updates: readonly EntryUpdate[]): Promise<readonly UpdateOutcome[]>;
  /** Whether each was there. */
  deleteEntries(ids: readonly string[]): Promise<readonly boolean[]>;
  getEntry(id: string): Promise<Entry | undefined>;
  listEntries(filter: EntryFilter, page: PageRequest): Promise<Page<Entry>>;
  countEntries(filter: EntryFilter): Promise<number>;

  /** @throws SpireError INVALID_ARGUMENT for a TTL below 1; INTERNAL when the given token exists already. */
  createJoinToken(request: JoinTokenRequest): Promise<JoinToken>;
  /** Uses the token up. @throws SpireError INVALID_ARGUMENT when it is unknown, used or expired. */
  redeemJoinToken(token: string): Promise<void>;

  /** Inserts or replaces an agent with its selectors. */
  putNode(node: AttestedNode): Promise<void>;
  /** @throws SpireError NOT_FOUND `agent not found`. */
  updateNode(id: SpiffeId, fields: Partial<Omit<AttestedNode, "id" | "selectors">>): Promise<AttestedNode>;
  getNode(id: SpiffeId): Promise<AttestedNode | undefined>;
  listNodes(filter: NodeFilter, page: PageRequest): Promise<Page<AttestedNode>>;
  countNodes(filter: NodeFilter): Promise<number>;
  /** Blanks both serial numbers; the agent stays listed. @throws SpireError NOT_FOUND `agent not found`. */
  banAgent(id: SpiffeId): Promise<void>;
  /** Removes the agent, its selectors and its join token's alias entry. @throws SpireError NOT_FOUND `agent not found`. */
  deleteAgent(id: SpiffeId): Promise<void>;
  /** Deletes the agents that the filter matches, at most `limit` of them (0 = all); returns them. */
  purgeAgents(filter: NodeFilter, limit?: number): Promise<readonly AttestedNode[]>;

  /** All bundles, from memory; current when a write resolves. */
  readonly bundles: ReadonlyMap<TrustDomain, TrustBundle>;
  listBundles(page: PageRequest): Promise<Page<TrustBundle>>;
  countBundles(): Promise<number>;
  /**
   * See `BundleStore.mutate`. Of the own trust domain's bundle each version is kept.
   *
   * @param reason of the change, for the bundle's history.
   */
  mutateBundle(
    trustDomain: TrustDomain,
    change: (current: TrustBundle | undefined) => TrustBundle,
    reason?: string,
  ): Promise<TrustBundle>;
  /** @throws SpireError NOT_FOUND; FAILED_PRECONDITION in mode restrict while entries federate with it. */
  deleteBundle(trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<void>;

  /** Brings memory up to what is committed, by whichever process. */
  catchUp(): Promise<void>;
  /** Returns the function that ends the listening. */
  onChange(listener: (change: RegistryChange) => void): () => void;
  /** Ends background work; the store stays open. */
  close(): Promise<void>;
}

export interface RegistryOptions {
  readonly store: Store;
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly log: Logger;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
  /** Milliseconds between looks for other servers' writes; unset = the store is ours alone. */
  readonly pollIntervalMs?: number;
}

const pruneIntervalMs = 5 * 60_000;
/** A server that shares the database and is further behind than this reads everything anew. */
const keptChanges = 100_000;
const backoff: Backoff = { initialMs: 1_000, maximumMs: 30_000 };

/** Reads the whole store into memory once, then follows its change feed. */
export async function createRegistry(options: RegistryOptions): Promise<Registry> {
  const { store, trustDomain, clock, log, pollIntervalMs, metrics = nullMetrics } = options;
  const listeners = new Set<(change: RegistryChange) => void>();
  const tell = (change: RegistryChange) => {
    for (const listener of listeners) {
      try {
        listener(change);
      } catch (error) {
        log.error("Registry listener failed", { error });
      }
    }
  };
  const follower = await measured(metrics, ["entry", "cache", "reload"], () =>
    createFollower(store, trustDomain, tell),
  );
  const entryWriter = createEntryWriter(store.entries, trustDomain, clock);
  const joinTokens = createJoinTokens(store, trustDomain, clock);

  /** Whoever has written reads it from memory. */
  async function indexed<T>(write: Promise<T>): Promise<T> {
    const result = await write;
    await follower.catchUp();
    return result;
  }

  async function prune(): Promise<number> {
    const now = unixSeconds(clock);
    const expired = await measured(metrics, ["registration_entry", "manager", "prune"], () =>
      store.entries.pruneExpired(now),
    );
    for (const entry_id of expired) {
      const entry = follower.index.entry(entry_id);
      const about = { spiffe_id: entry?.spiffeId, parent_id: entry?.parentId };
      log.info("Pruned an expired registration", { entry_id, ...about });
    }
    if (expired.length > 0) await follower.catchUp();
    const tokens = await store.joinTokens.pruneExpired(now);
    if (tokens > 0) log.info("Pruned expired join tokens", { count: tokens });
    await store.changes.prune(follower.position - keptChanges);
    return pruneIntervalMs;
  }

  // What has expired while no server ran goes before anybody is answered; where that fails, the start does.
  await prune();
  const pruning = { name: "Pruning of the registry", firstDelayMs: pruneIntervalMs, run: prune };
  const tasks = [startTask({ ...pruning, clock, log, backoff })];
  if (pollIntervalMs !== undefined) {
    const look = async () => {
      if ((await store.changes.latest()) !== follower.position) await follower.catchUp();
      return pollIntervalMs;
    };
    tasks.push(startTask({ name: "Following of other servers' changes", clock, log, backoff, run: look }));
  }

  return {
    trustDomain,
    store,
    index: follower.index,

    createEntries: (drafts) => indexed(entryWriter.create(drafts)),
    updateEntries: (updates) => indexed(entryWriter.update(updates)),
    deleteEntries: (ids) => indexed(store.entries.delete(ids)),
    getEntry: async (id) => (await store.entries.get([id]))[0],
    listEntries: (filter, page) => store.entries.list(filter, page),
    countEntries: (filter) => store.entries.count(filter),

    createJoinToken: (request) => indexed(joinTokens.create(request)),
    redeemJoinToken: (token) => joinTokens.redeem(token),

    putNode: (node) => indexed(store.nodes.put(node)),
    updateNode: async (id, fields) => found(await indexed(store.nodes.update(id, fields))),
    getNode: (id) => store.nodes.get(id),
    listNodes: (filter, page) => store.nodes.list(filter, page),
    countNodes: (filter) => store.nodes.count(filter),
    async banAgent(id) {
      found(await indexed(store.nodes.update(id, { serialNumber: "", newSerialNumber: "" })));
    },
    async deleteAgent(id) {
      const [deleted] = await indexed(deleteAgents(store, async () => [id]));
      found(deleted);
    },
    purgeAgents: (filter, limit = 0) =>
      indexed(
        deleteAgents(store, async (groups) => {
          const { items } = await groups.nodes.list(filter, { size: limit, token: "" });
          return items.map(({ id }) => id);
        }),
      ),

    bundles: follower.bundles,
    listBundles: (page) => store.bundles.list(page),
    countBundles: () => store.bundles.count(),
    mutateBundle: (id, change, reason = "") => {
      const version = id === trustDomain ? { recordedAt: unixSeconds(clock), reason } : undefined;
      return indexed(store.bundles.mutate(id, change, version));
    },
    deleteBundle: (id, mode) => indexed(store.bundles.delete(id, mode)),

    catchUp: follower.catchUp,
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      await Promise.all(tasks.map((task) => task.stop()));
    },
  };
}

type Groups = Omit<Store, "transaction" | "close">;

/** Deletes agents with the entries that their join tokens made for them; returns those that were there. */
function deleteAgents(
  store: Store,
  choose: (groups: Groups) => Promise<readonly SpiffeId[]>,
): Promise<AttestedNode[]> {
  return store.transaction(async (groups) => {
    const deleted: AttestedNode[] = [];
    for (const id of await choose(groups)) {
      const node = await groups.nodes.delete(id);
      if (!node) continue;
      deleted.push(node);
      await deleteAlias(groups, id);
    }
    return deleted;
  });
}

function found(node: AttestedNode | undefined): AttestedNode {
  if (!node) throw notFound("agent not found");
  return node;
}
