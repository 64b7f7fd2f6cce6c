/** What keeps a server's registry: the contract that each database fulfils. */

import type { Entry, EntryDraft } from "../../core/entry.ts";
import type { SpireError } from "../../core/errors.ts";
import type { FederationRelationship } from "../../core/federation.ts";
import type { AttestedNode } from "../../core/node.ts";
import type { Selector, SetMatch } from "../../core/selector.ts";
import type { SpiffeId, TrustDomain } from "../../core/spiffe-id.ts";
import type { TrustBundle } from "../../core/trust-bundle.ts";

/** `size` 0 = everything; `token` "" = from the start. */
export interface PageRequest {
  readonly size: number;
  readonly token: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty after the last page: one with items yields a token, and then an empty page, as in SPIRE. */
  readonly nextToken: string;
}

export interface SelectorFilter {
  readonly selectors: readonly Selector[];
  readonly match: SetMatch;
}

export interface EntryFilter {
  readonly spiffeId?: SpiffeId;
  readonly parentId?: SpiffeId;
  readonly selectors?: SelectorFilter;
  readonly federatesWith?: { readonly trustDomains: readonly TrustDomain[]; readonly match: SetMatch };
  readonly hint?: string;
  readonly downstream?: boolean;
}

/** `existing` is set when a similar entry (same SPIFFE ID, parent and selector set) stood already. */
export type CreateOutcome =
  | { readonly entry: Entry; readonly existing: boolean }
  | { readonly error: SpireError };

export type UpdateOutcome = { readonly entry: Entry } | { readonly error: SpireError };

/** Every batch is one transaction: items fail one by one, but what is reported as done is durable together. */
export interface EntryStore {
  /** Items: ALREADY_EXISTS for an ID in use, INTERNAL for an unknown federated bundle. */
  create(drafts: readonly EntryDraft[], now: number): Promise<readonly CreateOutcome[]>;
  /** Replaces the fields named in `fields`; the revision grows by one. Items: NOT_FOUND, ALREADY_EXISTS. */
  update(updates: readonly EntryUpdate[]): Promise<readonly UpdateOutcome[]>;
  /** Whether each of them was there. */
  delete(ids: readonly string[]): Promise<readonly boolean[]>;
  /** In the order asked for; an unknown ID gives undefined. */
  get(ids: readonly string[]): Promise<readonly (Entry | undefined)[]>;
  list(filter: EntryFilter, page: PageRequest): Promise<Page<Entry>>;
  count(filter: EntryFilter): Promise<number>;
  /** Deletes entries whose `expiresAt` lies before `now` (unix seconds); returns their IDs. */
  pruneExpired(now: number): Promise<readonly string[]>;
}

export interface EntryUpdate {
  readonly id: string;
  /** Only the fields to change. */
  readonly fields: Partial<Omit<EntryDraft, "id">>;
}

export interface NodeFilter {
  readonly attestationType?: string;
  readonly selectors?: SelectorFilter;
  readonly banned?: boolean;
  readonly canReattest?: boolean;
  /** Unix seconds. */
  readonly expiresBefore?: number;
}

export interface NodeStore {
  /** Inserts or replaces the node and its selectors. */
  put(node: AttestedNode): Promise<void>;
  get(id: SpiffeId): Promise<AttestedNode | undefined>;
  /** Changes fields of a node and returns it; undefined when there is none. */
  update(
    id: SpiffeId,
    fields: Partial<Omit<AttestedNode, "id" | "selectors">>,
  ): Promise<AttestedNode | undefined>;
  delete(id: SpiffeId): Promise<AttestedNode | undefined>;
  list(filter: NodeFilter, page: PageRequest): Promise<Page<AttestedNode>>;
  count(filter: NodeFilter): Promise<number>;
}

/** What happens to entries that federate with a bundle that is deleted. */
export type BundleDeleteMode = "restrict" | "delete" | "dissociate";

/** What is known of how a version of a bundle came to be. */
export interface VersionNote {
  /** Unix seconds; 0 = not known. */
  readonly recordedAt: number;
  /** Empty = not known. */
  readonly reason: string;
}

/** A bundle as it once stood. Of those with one sequence number, the last. */
export interface BundleVersion extends VersionNote {
  readonly bundle: TrustBundle;
}

/** How many versions of a bundle are kept. */
export const keptVersions = 100;

export interface BundleStore {
  get(trustDomain: TrustDomain): Promise<TrustBundle | undefined>;
  list(page: PageRequest): Promise<Page<TrustBundle>>;
  count(): Promise<number>;
  /**
   * Reads, changes and writes a bundle in one transaction; `change` is synchronous and gets undefined when
   * there is none. Returning the same object writes nothing.
   *
   * @param version keeps what was written, and what it took the place of, among the versions.
   */
  mutate(
    trustDomain: TrustDomain,
    change: (current: TrustBundle | undefined) => TrustBundle,
    version?: VersionNote,
  ): Promise<TrustBundle>;
  /** The versions that are kept of a bundle, oldest first: the last ones by sequence number. */
  versions(trustDomain: TrustDomain): Promise<readonly BundleVersion[]>;
  /** @throws SpireError NOT_FOUND; FAILED_PRECONDITION in mode restrict while entries federate with it. */
  delete(trustDomain: TrustDomain, mode: BundleDeleteMode): Promise<void>;
}

/** Relationships made at run time; those of the configuration are not kept here. */
export interface FederationStore {
  get(trustDomain: TrustDomain): Promise<FederationRelationship | undefined>;
  list(page: PageRequest): Promise<Page<FederationRelationship>>;
  /** @throws SpireError ALREADY_EXISTS. */
  create(relationship: FederationRelationship): Promise<void>;
  /** Replaces the trust domain's relationship; false when there is none. */
  update(relationship: FederationRelationship): Promise<boolean>;
  /** Whether it was there. The trust domain's bundle stays. */
  delete(trustDomain: TrustDomain): Promise<boolean>;
}

export interface JoinToken {
  readonly token: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

export interface JoinTokenStore {
  /** @throws SpireError ALREADY_EXISTS. */
  create(token: JoinToken): Promise<void>;
  /** Removes the token and returns it: of two callers, one gets it. */
  take(token: string): Promise<JoinToken | undefined>;
  pruneExpired(now: number): Promise<number>;
}

/** The CA journal of one server, found by the X.509 authority that is active in it. */
export interface JournalRecord {
  readonly activeX509AuthorityId: string;
  /** JSON text; the server's own business. */
  readonly data: string;
}

export interface JournalStore {
  find(x509AuthorityIds: readonly string[]): Promise<JournalRecord | undefined>;
  /** Replaces the record of `previousAuthorityId`, or adds one when that is undefined. */
  put(record: JournalRecord, previousAuthorityId: string | undefined): Promise<void>;
  list(): Promise<readonly JournalRecord[]>;
  /** Whether the record was there. */
  delete(activeX509AuthorityId: string): Promise<boolean>;
}

/** What an agent was last seen to do. */
export interface AgentActivity {
  readonly id: SpiffeId;
  /** Unix seconds of its last call; 0 = never. */
  readonly lastSeenAt: number;
  /** Of the trust domain's bundle that it has; 0 = not known. */
  readonly bundleSequence: number;
}

/** Goes with the node: what is kept of an agent is gone when the agent is. */
export interface AgentActivityStore {
  list(): Promise<readonly AgentActivity[]>;
  /** Inserts or replaces; agents that there are no nodes of are left out. */
  put(activities: readonly AgentActivity[]): Promise<void>;
}

/** Until when anything may live that an authority signed for holders of a class. */
export interface SvidHorizon {
  readonly authorityId: string;
  /** The server's own business. */
  readonly holders: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

export interface SvidHorizonStore {
  list(): Promise<readonly SvidHorizon[]>;
  /** Inserts, or raises what is there. */
  raise(horizon: SvidHorizon): Promise<void>;
  /** Forgets those that lie before `now` (unix seconds). */
  prune(now: number): Promise<void>;
}

/** The one operation that replaces authorities, from the newest on. */
export interface RotationRecord {
  readonly id: string;
  /** JSON text; the server's own business. */
  readonly data: string;
}

export interface RotationStore {
  /** The one that was put first last. */
  latest(): Promise<RotationRecord | undefined>;
  /** Inserts, or replaces the record of the same ID. */
  put(record: RotationRecord): Promise<void>;
  /** The agents that were noted to have moved in this rotation. */
  moved(rotationId: string): Promise<readonly SpiffeId[]>;
  addMoved(rotationId: string, agents: readonly SpiffeId[]): Promise<void>;
  /** Forgets the agents noted in all rotations. */
  clearMoved(): Promise<void>;
}

/** One committed change. `sequence` grows with each; the row itself is read from its group. */
export interface Change {
  readonly sequence: number;
  readonly kind: "entry" | "node" | "bundle";
  /** Entry ID, agent ID or trust domain. */
  readonly key: string;
}

export interface ChangeFeed {
  /** The newest sequence number; 0 in an empty store. */
  latest(): Promise<number>;
  /** Changes after `sequence`, oldest first, at most `limit`. */
  after(sequence: number, limit: number): Promise<readonly Change[]>;
  /** Forgets all up to and including `sequence`. */
  prune(sequence: number): Promise<void>;
}

/** Asynchronous throughout: a database may be remote. An acknowledged write survives a crash. */
export interface Store {
  readonly entries: EntryStore;
  readonly nodes: NodeStore;
  readonly bundles: BundleStore;
  readonly federation: FederationStore;
  readonly joinTokens: JoinTokenStore;
  readonly journals: JournalStore;
  readonly agentActivity: AgentActivityStore;
  readonly svidHorizons: SvidHorizonStore;
  readonly rotations: RotationStore;
  readonly changes: ChangeFeed;
  /** Runs `work` on a store whose writes commit together or not at all. Not to be nested. */
  transaction<T>(work: (store: Omit<Store, "transaction" | "close">) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
