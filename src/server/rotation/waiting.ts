/** Whom a rotation waits for: agents that lack a bundle, and whoever still holds what an old authority signed. */
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { type AttestedNode, isBanned } from "../../core/node.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { ActivityBook } from "../agent-activity.ts";
import type { AuthorityKind } from "../journal.ts";
import type { Registry } from "../registry.ts";
import type { Operation } from "./operation.ts";
import type { Holders, SvidLedger } from "./svid-ledger.ts";

export interface WaitingAgent {
  readonly id: SpiffeId;
  /** Empty = it has not said. */
  readonly version: string;
  /** Unix seconds; 0 = never. */
  readonly lastSeenAt: number;
  /** What it lacks first: the bundle, an SVID of its own, or SVIDs of its workloads, of the new authority. */
  readonly reason: "bundle" | "agent_svid" | "workload_svids";
  /** Of its workloads, that are or may be of an old authority. */
  readonly svids: number;
  /** Unix seconds after which it isn't waited for in any case. */
  readonly until: number;
}

/** Something else than an agent. */
export interface WaitingFor {
  readonly kind: AuthorityKind;
  /** `server`: the server's own SVID. `relays`: servers that pass the bundle on to agents of their own. */
  readonly holders: Holders | "server" | "relays";
  /** Unix seconds; 0 = at any moment. */
  readonly until: number;
}

export interface Waiting {
  /** Those seen least recently first. */
  readonly agents: readonly WaitingAgent[];
  readonly others: readonly WaitingFor[];
}

export const nobody: Waiting = { agents: [], others: [] };

export interface WaitingOptions {
  readonly registry: Registry;
  readonly activity: ActivityBook;
  readonly ledger: SvidLedger;
  /** ID of the X.509 authority that signed the server's own SVID. */
  readonly ownAuthority: () => string;
  /** Whether other servers of the trust domain, above or below, pass the bundle on to agents of their own. */
  readonly hasRelays: () => boolean;
  readonly clock: Clock;
}

export interface WaitingList {
  /** Called when somebody may no longer be waited for. Returns the function that ends the listening. */
  onProgress(listener: () => void): () => void;
  /** Agents that haven't the bundle of the operation, or a later one, and servers that may have to pass it on. */
  lackingBundle(operation: Operation): Waiting;
  /**
   * Whoever holds what an old authority of the operation signed. Agents in `moved` are taken for done: nothing that
   * is old can come back. New ones that are done are told to `noteMoved`.
   */
  notMoved(operation: Operation, moved: ReadonlySet<SpiffeId>, noteMoved: (agent: SpiffeId) => void): Waiting;
}

/**
 * What an agent of another server has, nobody here knows. Each server in between takes up to 5 s to fetch the bundle,
 * and an agent as long: three servers deep, with some to spare.
 */
const relaySeconds = 30;

/** The same for a taint: then the servers get new CAs first, and the agents new SVIDs. */
const relayedMoveSeconds = 60;

export function createWaitingList(options: WaitingOptions): WaitingList {
  const { registry, activity, ledger, ownAuthority, hasRelays, clock } = options;
  const { index } = registry;

  /** Agents that may call: the others are not waited for. */
  function* inGoodStanding(now: number): Generator<AttestedNode> {
    for (const id of index.nodeIds()) {
      const node = index.node(id);
      if (node && !isBanned(node) && endOf(node) > now) yield node;
    }
  }

  function named(
    node: AttestedNode,
    reason: WaitingAgent["reason"],
    until: number,
    svids: number,
  ): WaitingAgent {
    const { lastSeenAt } = activity.of(node.id);
    const end = Math.min(until, endOf(node));
    return { id: node.id, version: node.agentVersion, lastSeenAt, reason, svids, until: end };
  }

  /** Whether the agent may hold an SVID of its own that an old authority signed. */
  function hasOldSvid(node: AttestedNode, old: ReadonlySet<string>, now: number): boolean {
    const isOld = (serialNumber: string): boolean => {
      const { svid } = activity.of(node.id);
      const used = svid?.serialNumber === serialNumber ? svid.authorityId : undefined;
      const authorityId = used ?? ledger.agentAuthority(node.id, serialNumber);
      // After a restart nobody knows until the agent calls.
      return authorityId === undefined || old.has(authorityId);
    };
    if (node.expiresAt > now && isOld(node.serialNumber)) return true;
    return node.newSerialNumber !== "" && node.newExpiresAt > now && isOld(node.newSerialNumber);
  }

  function whyNotMoved(
    node: AttestedNode,
    sequenceNumber: number,
    old: readonly string[],
    now: number,
  ): WaitingAgent | undefined {
    const pending = ledger.pending(node.id, old);
    if (activity.of(node.id).bundleSequence < sequenceNumber) {
      return named(node, "bundle", endOf(node), pending.svids);
    }
    if (old.length > 0 && hasOldSvid(node, new Set(old), now)) {
      return named(node, "agent_svid", endOf(node), pending.svids);
    }
    return pending.svids > 0 ? named(node, "workload_svids", pending.until, pending.svids) : undefined;
  }

  function otherHolders(operation: Operation, now: number): readonly WaitingFor[] {
    const waiting: WaitingFor[] = [];
    for (const { kind, old } of operation.replacements) {
      for (const holders of holdersWaitedFor(operation, kind)) {
        const until = Math.max(0, ...old.map((id) => ledger.horizon(id, holders)));
        if (until > now) waiting.push({ kind, holders, until });
      }
      if (kind === "x509" && operation.ignoreDownstream) {
        const end = Math.max(0, ...old.map((id) => ledger.horizon(id, "downstream")));
        const until = Math.min(end, operation.stageSince + relayedMoveSeconds);
        if (until > now) waiting.push({ kind, holders: "relays", until });
      }
      if (kind === "x509" && old.includes(ownAuthority())) {
        waiting.push({ kind, holders: "server", until: 0 });
      }
    }
    return waiting;
  }

  return {
    onProgress(listener) {
      const ends = [activity.onProgress(listener), ledger.onProgress(listener), registry.onChange(listener)];
      return () => {
        for (const end of ends) end();
      };
    },
    lackingBundle({ bundleSequence, kinds, stageSince }) {
      const now = unixSeconds(clock);
      const agents: WaitingAgent[] = [];
      for (const node of inGoodStanding(now)) {
        if (activity.of(node.id).bundleSequence >= bundleSequence) continue;
        agents.push(named(node, "bundle", endOf(node), 0));
      }
      const until = stageSince + relaySeconds;
      const relayed = until > now && hasRelays() ? kinds : [];
      const others = relayed.map((kind): WaitingFor => ({ kind, holders: "relays", until }));
      return { agents: agents.sort(leastRecentFirst), others };
    },
    notMoved(operation, moved, noteMoved) {
      const now = unixSeconds(clock);
      const old = operation.replacements.flatMap((item) => (item.kind === "x509" ? item.old : []));
      const agents: WaitingAgent[] = [];
      for (const node of inGoodStanding(now)) {
        if (moved.has(node.id)) continue;
        const waiting = whyNotMoved(node, operation.bundleSequence, old, now);
        if (waiting) agents.push(waiting);
        else noteMoved(node.id);
      }
      return { agents: agents.sort(leastRecentFirst), others: otherHolders(operation, now) };
    },
  };
}

/** X.509-SVIDs of workloads are known one by one; tokens end when they expire. */
function holdersWaitedFor(operation: Operation, kind: AuthorityKind): readonly Holders[] {
  const holders: Holders[] = kind === "x509" ? [] : ["workloads"];
  if (!operation.ignoreMinted) holders.push("minted");
  if (kind === "x509" && !operation.ignoreDownstream) holders.push("downstream");
  return holders;
}

const endOf = ({ expiresAt, newSerialNumber, newExpiresAt }: AttestedNode): number =>
  newSerialNumber === "" ? expiresAt : Math.max(expiresAt, newExpiresAt);

const leastRecentFirst = (a: WaitingAgent, b: WaitingAgent): number =>
  a.lastSeenAt - b.lastSeenAt || (a.id < b.id ? -1 : 1);
