/** What agents were last seen to do: kept in memory, written behind in batches, so that no call waits for it. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { isBanned } from "../core/node.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import { startTask } from "../core/tasks.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import type { AgentActivity } from "../plugins/datastores/index.ts";
import type { Call, PeerSvid } from "../rpc/service.ts";
import type { Registry } from "./registry.ts";

/** What a crash can lose, in ms. */
const writeIntervalMs = 15_000;

/** The certificate that an agent last called with. */
export interface UsedSvid {
  /** Decimal. */
  readonly serialNumber: string;
  /** The X.509 authority that signed it; empty when it doesn't say. */
  readonly authorityId: string;
}

export interface SeenAgent extends Pick<AgentActivity, "lastSeenAt" | "bundleSequence"> {
  /** Undefined until the agent calls, after a restart too. */
  readonly svid: UsedSvid | undefined;
}

export interface ActivityBook {
  /** An agent in good standing made a call. */
  called(svid: PeerSvid): void;
  /** The call is about to be answered with the trust domain's bundle; it counts once the caller has the answer. */
  bundleSent(call: Call, sequenceNumber: number): void;
  of(agent: SpiffeId): SeenAgent;
  /** Called when an agent has another bundle or another SVID. Returns the function that ends the listening. */
  onProgress(listener: () => void): () => void;
  /** Writes what is new. */
  flush(): Promise<void>;
  /** Writes what is new, and ends the background work. */
  close(): Promise<void>;
}

interface Record {
  lastSeenAt: number;
  bundleSequence: number;
  svid: UsedSvid | undefined;
  isDirty: boolean;
}

export interface ActivityOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

const nothingSeen: SeenAgent = { lastSeenAt: 0, bundleSequence: 0, svid: undefined };

/** Begins with what was written before. */
export async function createActivityBook({ registry, clock, log }: ActivityOptions): Promise<ActivityBook> {
  const records = new Map<SpiffeId, Record>();
  const listeners = new Set<() => void>();
  const tell = () => {
    for (const listener of listeners) listener();
  };
  for (const { id, lastSeenAt, bundleSequence } of await registry.store.agentActivity.list()) {
    records.set(id, { lastSeenAt, bundleSequence, svid: undefined, isDirty: false });
  }

  function recordOf(id: SpiffeId): Record {
    const known = records.get(id);
    if (known) return known;
    const added = { lastSeenAt: 0, bundleSequence: 0, svid: undefined, isDirty: false };
    records.set(id, added);
    return added;
  }

  function see(peer: PeerSvid): Record {
    const record = recordOf(peer.id);
    record.lastSeenAt = unixSeconds(clock);
    record.isDirty = true;
    // By serial number: an agent may call over several connections in turn.
    if (record.svid?.serialNumber !== peer.serialNumber) {
      record.svid = usedSvid(peer);
      tell();
    }
    return record;
  }

  /** GetBundle is open to all, so nobody has looked yet whether this is an agent's certificate in force. */
  function isInForce({ id, serialNumber, expiresAt }: PeerSvid): boolean {
    const node = registry.index.node(id);
    if (!node || isBanned(node) || expiresAt <= unixSeconds(clock)) return false;
    return serialNumber === node.serialNumber || serialNumber === node.newSerialNumber;
  }

  async function flush(): Promise<void> {
    const dirty: AgentActivity[] = [];
    for (const [id, record] of records) {
      if (!record.isDirty) continue;
      record.isDirty = false;
      dirty.push({ id, lastSeenAt: record.lastSeenAt, bundleSequence: record.bundleSequence });
    }
    if (dirty.length === 0) return;
    try {
      await registry.store.agentActivity.put(dirty);
    } catch (error) {
      for (const { id } of dirty) {
        const record = records.get(id);
        if (record) record.isDirty = true;
      }
      throw error;
    }
  }

  const task = startTask({
    name: "Writing of agents' activity",
    clock,
    log,
    backoff: { initialMs: writeIntervalMs, maximumMs: 4 * writeIntervalMs },
    async run() {
      await flush();
      return writeIntervalMs;
    },
  });
  /** Who attests anew after it was evicted has to show anew what it has. */
  const stopListening = registry.onChange(({ agents }) => {
    for (const id of agents === "all" ? [...records.keys()] : agents) {
      if (!registry.index.node(id)) records.delete(id);
    }
  });

  return {
    called: (peer) => void see(peer),
    bundleSent(call, sequenceNumber) {
      const { svid } = call.caller;
      if (!svid || !isInForce(svid)) return;
      if (see(svid).bundleSequence >= sequenceNumber) return;
      call.onAnswered((delivered) => {
        if (!delivered || !registry.index.node(svid.id)) return;
        const record = recordOf(svid.id);
        record.bundleSequence = Math.max(record.bundleSequence, sequenceNumber);
        record.isDirty = true;
        tell();
      });
    },
    onProgress(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    of: (agent) => records.get(agent) ?? nothingSeen,
    flush,
    async close() {
      stopListening();
      await task.stop();
      try {
        await flush();
      } catch (error) {
        log.warn("Could not write agents' activity", { error });
      }
    },
  };
}

function usedSvid({ chain, serialNumber }: PeerSvid): UsedSvid {
  const [leaf] = chain;
  const issuer = leaf && parseCertificate(leaf).authorityKeyId;
  return { serialNumber, authorityId: issuer ? Buffer.from(issuer).toString("hex") : "" };
}
