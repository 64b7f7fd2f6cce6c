/** Keeps memory level with the store: loads everything once, then applies the change feed in order. */
import { type AuthorizedEntries, createAuthorizedEntries } from "../core/authorized-entries.ts";
import { type AttestedNode, isBanned } from "../core/node.ts";
import { selectorSetKey } from "../core/selector.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import type { Change, Page, PageRequest, Store } from "../plugins/datastores/index.ts";

/** Told after a change is committed and indexed: the agents whose entries, bundles or standing it touches. */
export interface RegistryChange {
  readonly agents: "all" | ReadonlySet<SpiffeId>;
}

export interface Follower {
  readonly index: AuthorizedEntries;
  readonly bundles: ReadonlyMap<TrustDomain, TrustBundle>;
  /** The sequence number that memory is level with. */
  readonly position: number;
  /** When it resolves, all that was committed before the call is in memory. */
  catchUp(): Promise<void>;
}

const pageSize = 5_000;
const changesAtOnce = 2_000;

/** Loads the store; `tell` is called after each group of changes. */
export async function createFollower(
  store: Store,
  trustDomain: TrustDomain,
  tell: (change: RegistryChange) => void,
): Promise<Follower> {
  const index = createAuthorizedEntries();
  const bundles = new Map<TrustDomain, TrustBundle>();
  let position = 0;

  async function load(): Promise<void> {
    // Read first: what is committed while the rest loads is applied once more by the feed, which does no harm.
    const start = await store.changes.latest();
    const entries = new Set<string>();
    for await (const entry of everyItem((page) => store.entries.list({}, page))) {
      index.putEntry(entry);
      entries.add(entry.id);
    }
    const nodes = new Set<SpiffeId>();
    for await (const node of everyItem((page) => store.nodes.list({}, page))) {
      index.putNode(node);
      nodes.add(node.id);
    }
    const known = new Set<TrustDomain>();
    for await (const bundle of everyItem((page) => store.bundles.list(page))) {
      bundles.set(bundle.trustDomain, bundle);
      known.add(bundle.trustDomain);
    }
    for (const id of [...index.entryIds()]) if (!entries.has(id)) index.deleteEntry(id);
    for (const id of [...index.nodeIds()]) if (!nodes.has(id)) index.deleteNode(id);
    for (const id of [...bundles.keys()]) if (!known.has(id)) bundles.delete(id);
    position = start;
  }

  async function follow(): Promise<void> {
    for (;;) {
      const changes = await store.changes.after(position, changesAtOnce);
      const first = changes[0];
      const last = changes.at(-1);
      if (!first || !last) return;
      if (first.sequence > position + 1) {
        // Changes in between were pruned before this server saw them.
        await load();
        tell({ agents: "all" });
        continue;
      }
      const agents = await apply(changes);
      position = last.sequence;
      if (agents === "all" || agents.size > 0) tell({ agents });
    }
  }

  async function apply(changes: readonly Change[]): Promise<RegistryChange["agents"]> {
    const keysOf = (kind: Change["kind"]) => [
      ...new Set(changes.filter((change) => change.kind === kind).map(({ key }) => key)),
    ];
    const concerned = new Set<ReadonlySet<SpiffeId>>();
    for (const id of keysOf("node")) concerned.add(await applyNode(id as SpiffeId));
    const ids = keysOf("entry");
    const entries = await store.entries.get(ids);
    ids.forEach((id, at) => {
      const entry = entries[at];
      concerned.add(entry ? index.putEntry(entry) : index.deleteEntry(id));
    });
    let everybody = false;
    for (const changed of keysOf("bundle") as TrustDomain[]) {
      const bundle = await store.bundles.get(changed);
      if (bundle) bundles.set(changed, bundle);
      else bundles.delete(changed);
      if (changed === trustDomain) everybody = true;
      else concerned.add(index.agentsFederatingWith(changed));
    }
    return everybody ? "all" : new Set([...concerned].flatMap((agents) => [...agents]));
  }

  async function applyNode(id: SpiffeId): Promise<ReadonlySet<SpiffeId>> {
    const before = index.node(id);
    const after = await store.nodes.get(id);
    if (after) index.putNode(after);
    else index.deleteNode(id);
    return before && after && sameStanding(before, after) ? new Set() : new Set([id]);
  }

  await load();
  const catchUp = createCoalesced(follow);
  return {
    index,
    bundles,
    get position() {
      return position;
    },
    catchUp,
  };
}

/** A renewed SVID changes nothing that the agent itself doesn't know. */
const sameStanding = (a: AttestedNode, b: AttestedNode): boolean =>
  isBanned(a) === isBanned(b) && selectorSetKey(a.selectors) === selectorSetKey(b.selectors);

/** Calls while a run is under way share the one run that starts after it. */
function createCoalesced(run: () => Promise<void>): () => Promise<void> {
  let current: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  function start(): Promise<void> {
    current = run().finally(() => {
      current = undefined;
    });
    return current;
  }
  return () => {
    if (!current) return start();
    next ??= current
      .catch(() => undefined)
      .then(() => {
        next = undefined;
        return start();
      });
    return next;
  };
}

async function* everyItem<T>(read: (page: PageRequest) => Promise<Page<T>>): AsyncGenerator<T> {
  let token = "";
  do {
    const page = await read({ size: pageSize, token });
    yield* page.items;
    token = page.nextToken;
  } while (token !== "");
}
