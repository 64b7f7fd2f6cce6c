/** Who holds SVIDs of which authority: what has to be known before an authority can be revoked without harm. */
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import { startTask } from "../../core/tasks.ts";
import { authorityId, parseCertificate } from "../../core/x509/certificate.ts";
import type { SvidHorizon } from "../../plugins/datastores/index.ts";
import type { SvidHolder } from "../authority.ts";
import type { Registry } from "../registry.ts";

/**
 * For whom something was signed. `workloads`: for an agent's workloads, as an entry allows. `minted`: on demand, so
 * that nobody is there to replace it. `downstream`: a CA certificate of another server.
 */
export type Holders = "workloads" | "minted" | "downstream";

const allHolders: readonly Holders[] = ["workloads", "minted", "downstream"];

/** What an agent's workloads may hold of some authorities. */
export interface Pending {
  readonly svids: number;
  /** Unix seconds at which the last of them ends; 0 without any. */
  readonly until: number;
}

/** Signings that are under way together. */
export interface Signings {
  open: number;
  /** Called when none is left; undefined while nobody waits for that. */
  onLast: (() => void) | undefined;
}

export interface SvidLedger {
  /**
   * Notes what was signed. What it returns is to be awaited before it is handed out.
   *
   * @param expiresAt unix seconds.
   * @param holder of an X.509-SVID, which the next one replaces that the same agent gets for the same entry.
   */
  signed(
    authorityId: string,
    holders: Holders,
    expiresAt: number,
    holder?: SvidHolder,
  ): Promise<void> | undefined;
  agentSigned(agent: SpiffeId, serialNumber: string, authorityId: string): void;
  /** The authority of an agent's SVID that this process signed as the agent's last; undefined = not known. */
  agentAuthority(agent: SpiffeId, serialNumber: string): string | undefined;
  /** A signing begins, and `leave` is called with what this returns when it is over and noted, or has failed. */
  enter(): Signings;
  leave(signings: Signings): void;
  /** Resolves when all is over that has begun. */
  quiesce(): Promise<void>;
  /** Whether it matters that an answer with SVIDs for the agent is delivered. */
  awaitsDelivery(agent: SpiffeId): boolean;
  /** The agent has these SVIDs now, in place of those that it had for the same entries. */
  delivered(agent: SpiffeId, svids: readonly { entryId: string; authorityId: string }[]): void;
  /** Unix seconds until which anything may live that the authority signed for them; 0 = nothing. */
  horizon(authorityId: string, holders: Holders): number;
  /** X.509-SVIDs of the agent's present entries that are, or may be, of one of the authorities. */
  pending(agent: SpiffeId, authorityIds: readonly string[]): Pending;
  /** Called when SVIDs took the place of others. Returns the function that ends the listening. */
  onProgress(listener: () => void): () => void;
  close(): Promise<void>;
}

export interface LedgerOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * A horizon is written down before anything beyond it is handed out, and by this many seconds more than needed: so
 * there is a write a minute, and after a crash all is known to end soon after it does.
 */
const slackSeconds = 60;

/** In the store, says that every horizon of a database is there. */
const completeMark = { authorityId: "", holders: "complete", expiresAt: Number.MAX_SAFE_INTEGER };

const upkeepMs = 10 * 60_000;

interface Horizon {
  /** Of what was signed. */
  needed: number;
  /** Written down. */
  durable: number;
  /** What was signed before this process; who holds it is not known. */
  readonly inherited: number;
  writing: Promise<void> | undefined;
}

type Expiries = Map<string, number>;

/** What the store can't tell of authorities that are in the bundle now, it takes for the worst. */
export async function createSvidLedger({ registry, clock, log }: LedgerOptions): Promise<SvidLedger> {
  const { svidHorizons } = registry.store;
  const { index } = registry;
  const horizons = new Map<string, Horizon>();
  /** Authority > agent > entry > end of the SVID. */
  const held = new Map<string, Map<SpiffeId, Expiries>>();
  /** Entries of which it is known what the agent holds, while there are SVIDs of which it isn't. */
  const settled = new Map<SpiffeId, Set<string>>();
  const agentSvids = new Map<SpiffeId, { serialNumber: string; authorityId: string }>();
  let signings: Signings = { open: 0, onLast: undefined };
  const listeners = new Set<() => void>();
  const key = (authorityId: string, holders: string) => `${holders} ${authorityId}`;

  function addHorizon({ authorityId, holders, expiresAt }: SvidHorizon): void {
    const inherited = { needed: expiresAt, durable: expiresAt, inherited: expiresAt, writing: undefined };
    horizons.set(key(authorityId, holders), inherited);
  }

  /** A database of an earlier version, or one that was restored, can't say what was signed: then all that could be. */
  async function load(): Promise<void> {
    const stored = await svidHorizons.list();
    for (const horizon of stored) addHorizon(horizon);
    if (stored.some(({ holders }) => holders === completeMark.holders)) return;
    for (const { id, notAfter: expiresAt } of published(registry)) {
      for (const holders of allHolders) {
        await svidHorizons.raise({ authorityId: id, holders, expiresAt });
        addHorizon({ authorityId: id, holders, expiresAt });
      }
    }
    await svidHorizons.raise(completeMark);
  }
  await load();
  /** Until when SVIDs may live of which nobody knows who holds them. */
  const unknownUntil = Math.max(
    0,
    ...[...horizons].filter(([name]) => name.startsWith("workloads ")).map(([, { inherited }]) => inherited),
  );

  function horizonOf(authorityId: string, holders: Holders): Horizon {
    const name = key(authorityId, holders);
    const known = horizons.get(name);
    if (known) return known;
    const added: Horizon = { needed: 0, durable: 0, inherited: 0, writing: undefined };
    horizons.set(name, added);
    return added;
  }

  /** A disk that refuses must not end all signing: what it then doesn't know is lost only with a crash. */
  async function write(horizon: Horizon, authorityId: string, holders: Holders): Promise<void> {
    try {
      while (horizon.durable < horizon.needed) {
        const expiresAt = horizon.needed + slackSeconds;
        await svidHorizons.raise({ authorityId, holders, expiresAt });
        horizon.durable = expiresAt;
      }
    } catch (error) {
      log.error("Could not note until when SVIDs live", { error: SpireError.from(error) });
    } finally {
      horizon.writing = undefined;
    }
  }

  function hold({ agent, entryId }: SvidHolder, authorityId: string, expiresAt: number): void {
    const agents = held.get(authorityId) ?? new Map<SpiffeId, Expiries>();
    held.set(authorityId, agents);
    const entries = agents.get(agent) ?? new Map<string, number>();
    agents.set(agent, entries);
    entries.set(entryId, Math.max(expiresAt, entries.get(entryId) ?? 0));
  }

  function release(authorityId: string, agent: SpiffeId, entryId: string): void {
    const agents = held.get(authorityId);
    const entries = agents?.get(agent);
    if (!entries?.delete(entryId) || entries.size > 0) return;
    agents?.delete(agent);
    if (agents?.size === 0) held.delete(authorityId);
  }

  function forgetExpired(now: number): void {
    for (const [authorityId, agents] of held) {
      for (const [agent, entries] of agents) {
        for (const [entryId, expiresAt] of entries) {
          if (expiresAt <= now) release(authorityId, agent, entryId);
        }
      }
    }
    if (unknownUntil <= now) settled.clear();
  }

  const knownAgents = (): ReadonlySet<SpiffeId> =>
    new Set([...agentSvids.keys(), ...settled.keys(), ...[...held.values()].flatMap((of) => [...of.keys()])]);

  function forgetAgent(agent: SpiffeId): void {
    for (const agents of held.values()) agents.delete(agent);
    settled.delete(agent);
    agentSvids.delete(agent);
  }

  const task = startTask({
    name: "Upkeep of the SVID ledger",
    clock,
    log,
    backoff: { initialMs: 60_000, maximumMs: upkeepMs },
    async run() {
      const now = unixSeconds(clock);
      forgetExpired(now);
      await svidHorizons.prune(now);
      return upkeepMs;
    },
  });
  const stopListening = registry.onChange(({ agents }) => {
    for (const agent of agents === "all" ? knownAgents() : agents) {
      if (!index.node(agent)) forgetAgent(agent);
    }
  });

  return {
    signed(authorityId, holders, expiresAt, holder) {
      const horizon = horizonOf(authorityId, holders);
      horizon.needed = Math.max(horizon.needed, expiresAt);
      if (holder) hold(holder, authorityId, expiresAt);
      if (expiresAt <= horizon.durable) return undefined;
      horizon.writing ??= write(horizon, authorityId, holders);
      return horizon.writing;
    },
    agentSigned(agent, serialNumber, authorityId) {
      agentSvids.set(agent, { serialNumber, authorityId });
    },
    agentAuthority(agent, serialNumber) {
      const signed = agentSvids.get(agent);
      return signed?.serialNumber === serialNumber ? signed.authorityId : undefined;
    },
    enter() {
      signings.open += 1;
      return signings;
    },
    leave(entered) {
      entered.open -= 1;
      if (entered.open === 0) entered.onLast?.();
    },
    async quiesce() {
      const begun = signings;
      signings = { open: 0, onLast: undefined };
      if (begun.open === 0) return;
      await new Promise<void>((resolve) => {
        begun.onLast = resolve;
      });
    },
    awaitsDelivery(agent) {
      if (unknownUntil > unixSeconds(clock)) return true;
      let authorities = 0;
      for (const agents of held.values()) if (agents.has(agent)) authorities += 1;
      return authorities > 1;
    },
    delivered(agent, svids) {
      const isUnsettled = unknownUntil > unixSeconds(clock);
      for (const { entryId, authorityId } of svids) {
        for (const other of [...held.keys()]) if (other !== authorityId) release(other, agent, entryId);
        if (!isUnsettled) continue;
        const entries = settled.get(agent) ?? new Set<string>();
        settled.set(agent, entries.add(entryId));
      }
      for (const listener of listeners) listener();
    },
    horizon: (authorityId, holders) => horizons.get(key(authorityId, holders))?.needed ?? 0,
    pending(agent, authorityIds) {
      const now = unixSeconds(clock);
      let until = 0;
      const entries = new Set<string>();
      const add = (entryId: string, expiresAt: number) => {
        entries.add(entryId);
        until = Math.max(until, expiresAt);
      };
      for (const authorityId of authorityIds) {
        for (const [entryId, expiresAt] of held.get(authorityId)?.get(agent) ?? []) {
          if (expiresAt > now && index.lookup(agent, entryId)) add(entryId, expiresAt);
        }
        const inherited = horizons.get(key(authorityId, "workloads"))?.inherited ?? 0;
        if (inherited <= now) continue;
        const known = settled.get(agent);
        for (const { id } of index.forAgent(agent)) if (!known?.has(id)) add(id, inherited);
      }
      return { svids: entries.size, until };
    },
    onProgress(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      stopListening();
      await task.stop();
    },
  };
}

/** The authorities in the bundle, with their ends in unix seconds. */
function published({ bundles, trustDomain }: Registry): readonly { id: string; notAfter: number }[] {
  const { x509Authorities = [], jwtAuthorities = [], witAuthorities = [] } = bundles.get(trustDomain) ?? {};
  return [
    ...x509Authorities.map(({ der }) => {
      const certificate = parseCertificate(der);
      return { id: authorityId(certificate), notAfter: certificate.notAfter };
    }),
    ...[...jwtAuthorities, ...witAuthorities].map(({ keyId: id, expiresAt: notAfter }) => ({ id, notAfter })),
  ];
}
