/** Whatever agents, networks, crashes and administrators do: no agent holds what another one doesn't trust. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  trustDomain,
} from "../../../test/server/authority-fixture.ts";
import { unixSeconds } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { exportPublicKeyInfo, generateKey } from "../../core/keys.ts";
import { nullLogger } from "../../core/log.ts";
import { nullMetrics } from "../../core/metrics.ts";
import { isBanned } from "../../core/node.ts";
import { makeSpiffeId, type SpiffeId } from "../../core/spiffe-id.ts";
import { emptyBundle } from "../../core/trust-bundle.ts";
import type { Call, PeerSvid } from "../../rpc/service.ts";
import { type ActivityBook, createActivityBook } from "../agent-activity.ts";
import type { Authority, SignedCertificate } from "../authority.ts";
import { authorityIds, taintedIds } from "../authority-bundle.ts";
import { isFinished, isWaiting, type Operation, type RotationRequest } from "./operation.ts";
import { recordSignings } from "./recorded-authority.ts";
import { createRotationRunner, type RotationRunner } from "./runner.ts";
import { createRotationSteps } from "./steps.ts";
import { createSvidLedger, type SvidLedger } from "./svid-ledger.ts";
import { createWaitingList } from "./waiting.ts";

/** A server without a network: its parts on one store, opened anew after each crash. */
interface Server {
  readonly authority: Authority;
  readonly activity: ActivityBook;
  readonly ledger: SvidLedger;
  readonly runner: RotationRunner;
  close(): Promise<void>;
}

async function openServer({ registry, clock, open }: AuthorityFixture): Promise<Server> {
  const log = nullLogger;
  const plain = await open();
  const ledger = await createSvidLedger({ registry, clock, log });
  const activity = await createActivityBook({ registry, clock, log });
  const authority = recordSignings(plain, ledger);
  await authority.recover();
  const now = () => unixSeconds(clock);
  const ownAuthority = () => authority.state("x509", "active")?.authorityId ?? "";
  const runner = await createRotationRunner({
    store: registry.store.rotations,
    steps: createRotationSteps({ keeper: authority, registry, ledger, now }),
    waitingList: createWaitingList({
      registry,
      activity,
      ledger,
      ownAuthority,
      hasRelays: () => false,
      clock,
    }),
    clock,
    log,
    metrics: nullMetrics,
  });
  return {
    authority,
    activity,
    ledger,
    runner,
    async close() {
      await Promise.all([runner.close(), ledger.close()]);
    },
  };
}

interface HeldSvid {
  readonly authorityId: string;
  readonly expiresAt: number;
}

/** What an agent has, which the server can only guess. */
interface Agent {
  readonly id: SpiffeId;
  readonly entries: readonly string[];
  peer: PeerSvid;
  own: HeldSvid;
  sequence: number;
  trusted: ReadonlySet<string>;
  tainted: ReadonlySet<string>;
  readonly svids: Map<string, HeldSvid>;
}

const heldOf = ({ authorityId, notAfter }: SignedCertificate): HeldSvid => ({
  authorityId,
  expiresAt: notAfter,
});

/** An answer arrives and is acknowledged, arrives without the server learning it, or never arrives. */
type Fate = "acknowledged" | "arrived" | "lost";

type Action =
  | { readonly do: "fetch" | "renew"; readonly agent: number; readonly fate: Fate }
  | { readonly do: "sign"; readonly agent: number; readonly entry: number; readonly fate: Fate }
  /** What a decent agent does every few seconds; each of its SVIDs that is due may fail to come. */
  | { readonly do: "sync"; readonly agent: number; readonly fates: readonly Fate[] }
  | { readonly do: "ban" | "evict"; readonly agent: number }
  | { readonly do: "rotate" | "stop" | "resume" | "undo" | "crash" }
  | { readonly do: "wait"; readonly seconds: number };

const agentCount = 3;
const anAgent = fc.nat(agentCount - 1);
const fate = fc.constantFrom<Fate>("acknowledged", "acknowledged", "acknowledged", "arrived", "lost");
const fates = fc.array(fate, { minLength: 2, maxLength: 2 });

const disturbance: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.constant({ do: "rotate" } as const) },
  { weight: 3, arbitrary: fc.constant({ do: "crash" } as const) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("stop", "resume", "resume", "undo") }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("fetch", "renew"), agent: anAgent, fate }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("sign"), agent: anAgent, entry: fc.nat(1), fate }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("ban", "evict"), agent: anAgent }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("wait"), seconds: fc.integer({ min: 1, max: 1_500 }) }),
  },
);

/** Something happens, and then agents sync: most of them. */
const round: fc.Arbitrary<readonly Action[]> = fc
  .tuple(
    fc.array(disturbance, { maxLength: 1 }),
    fc.array(fc.record({ isUp: fc.integer({ max: 9, min: 0 }), fates }), {
      minLength: agentCount,
      maxLength: agentCount,
    }),
  )
  .map(([disturbances, agents]) => [
    ...disturbances,
    ...agents.flatMap(({ isUp, fates }, agent): Action[] => (isUp > 0 ? [{ do: "sync", agent, fates }] : [])),
  ]);
const runs = fc.array(round, { minLength: 6, maxLength: 14 }).map((rounds) => rounds.flat());

const request: RotationRequest = {
  kinds: ["x509", "jwt"],
  emergency: false,
  ignoreMinted: false,
  ignoreDownstream: false,
};

async function simulate(run: readonly Action[]): Promise<readonly string[]> {
  const fixture = await createAuthorityFixture();
  const { registry, clock } = fixture;
  const publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
  let server = await openServer(fixture);
  const ends = new Map<string, string>();
  const now = () => unixSeconds(clock);
  const bundle = () => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);

  const agents: Agent[] = [];
  for (let number = 0; number < agentCount; number += 1) agents.push(await join(number));

  async function join(number: number): Promise<Agent> {
    const id = makeSpiffeId(trustDomain, `/spire/agent/${number}`);
    const signed = await server.authority.signAgentSvid(id, publicKeyInfo);
    await registry.putNode({
      id,
      attestationType: "t",
      serialNumber: signed.serialNumber,
      expiresAt: signed.notAfter,
      newSerialNumber: "",
      newExpiresAt: 0,
      canReattest: false,
      agentVersion: "",
      selectors: [],
    });
    const drafts = [0, 1].map((entry) => ({
      id: `${number}-${entry}`,
      spiffeId: makeSpiffeId(trustDomain, `/w/${number}/${entry}`),
      parentId: id,
      selectors: [{ type: "t", value: `${number}-${entry}` }],
      x509SvidTtl: 0,
      jwtSvidTtl: 0,
      federatesWith: [],
      admin: false,
      downstream: false,
      expiresAt: 0,
      dnsNames: [],
      storeSvid: false,
      hint: "",
      disableX509SvidPrefetch: false,
      jwtSvidIncludeJti: false,
    }));
    await registry.createEntries(drafts);
    const agent: Agent = {
      id,
      entries: drafts.map((draft) => draft.id),
      peer: peerOf(id, signed),
      own: heldOf(signed),
      sequence: 0,
      trusted: new Set(),
      tainted: new Set(),
      svids: new Map(),
    };
    fetch(agent, "acknowledged");
    return agent;
  }

  function peerOf(id: SpiffeId, { chain, serialNumber, notAfter }: SignedCertificate): PeerSvid {
    return { id, chain, serialNumber, expiresAt: notAfter };
  }

  const stands = ({ id, own }: Agent): boolean => {
    const node = registry.index.node(id);
    return node !== undefined && !isBanned(node) && own.expiresAt > now();
  };

  function fetch(agent: Agent, how: Fate): void {
    const listeners: ((delivered: boolean) => void)[] = [];
    const call: Call = {
      method: "",
      caller: { transport: "tcp", address: "", svid: agent.peer },
      metadata: () => [],
      signal: new AbortController().signal,
      log: nullLogger,
      note() {},
      onAnswered: (listener) => void listeners.push(listener),
    };
    const { sequenceNumber } = bundle();
    server.activity.bundleSent(call, sequenceNumber);
    if (how !== "lost") {
      agent.sequence = sequenceNumber;
      agent.trusted = authorityIds(bundle(), "x509");
      agent.tainted = taintedIds(bundle(), "x509");
    }
    for (const tell of listeners) tell(how === "acknowledged");
  }

  async function sign(agent: Agent, entryId: string, how: Fate): Promise<void> {
    const spiffeId = makeSpiffeId(trustDomain, `/w/${entryId.replace("-", "/")}`);
    const holder = { agent: agent.id, entryId };
    const asked = { holder, spiffeId, publicKeyInfo, dnsNames: [], ttlSeconds: 0 };
    const signed = await server.authority.signWorkloadSvid(asked);
    if (how !== "lost") agent.svids.set(entryId, heldOf(signed));
    if (how === "acknowledged" && server.ledger.awaitsDelivery(agent.id)) {
      server.ledger.delivered(agent.id, [{ entryId, authorityId: signed.authorityId }]);
    }
  }

  async function renew(agent: Agent, how: Fate): Promise<void> {
    const signed = await server.authority.signAgentSvid(agent.id, publicKeyInfo);
    const { serialNumber: newSerialNumber, notAfter: newExpiresAt } = signed;
    await registry.updateNode(agent.id, { newSerialNumber, newExpiresAt });
    if (how === "lost") return;
    agent.peer = peerOf(agent.id, signed);
    agent.own = heldOf(signed);
    await use(agent);
  }

  async function use({ id, peer }: Agent): Promise<void> {
    const node = registry.index.node(id);
    if (node?.newSerialNumber === peer.serialNumber) {
      const { newExpiresAt } = node;
      const { serialNumber } = peer;
      await registry.updateNode(id, {
        serialNumber,
        expiresAt: newExpiresAt,
        newSerialNumber: "",
        newExpiresAt: 0,
      });
    }
    server.activity.called(peer);
  }

  async function sync(agent: Agent, fates: readonly Fate[]): Promise<void> {
    await use(agent);
    fetch(agent, "acknowledged");
    if (agent.tainted.has(agent.own.authorityId)) await renew(agent, "acknowledged");
    for (const [at, entryId] of agent.entries.entries()) {
      const held = agent.svids.get(entryId);
      const isDue = !held || held.expiresAt <= now() || agent.tainted.has(held.authorityId);
      if (isDue) await sign(agent, entryId, fates[at] ?? "acknowledged");
    }
  }

  async function take(action: Action): Promise<void> {
    const agent = "agent" in action ? agents[action.agent] : undefined;
    if (agent && !stands(agent)) return;
    switch (action.do) {
      case "fetch":
        return agent && fetch(agent, action.fate);
      case "renew":
        return agent && renew(agent, action.fate);
      case "sign":
        return agent && sign(agent, agent.entries[action.entry] ?? "", action.fate);
      case "sync":
        return agent && sync(agent, action.fates);
      case "ban":
        return agent && registry.banAgent(agent.id);
      case "evict":
        return agent && registry.deleteAgent(agent.id);
      case "rotate":
        return void (await server.runner.start(request));
      case "stop":
      case "resume":
      case "undo":
        return void (await server.runner[action.do]());
      case "crash":
        await server.close();
        server = await openServer(fixture);
        return;
      case "wait":
        return clock.advance(action.seconds * 1000);
    }
  }

  function current(): Operation | undefined {
    try {
      return server.runner.state().operation;
    } catch {
      return undefined;
    }
  }

  /** Lets the server do all that it can do now: until it looks at whom it waits for, and sees nothing new. */
  async function settle(): Promise<void> {
    for (let looks = 0; looks < 3; ) {
      for (let turn = 0; turn < 8; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      await clock.advance(400);
      const operation = current();
      const isAtRest = !operation || operation.stopped || isFinished(operation) || isWaiting(operation);
      looks = isAtRest ? looks + 1 : 0;
    }
  }

  function requireTrust(after: Action): void {
    const standing = agents.filter(stands);
    for (const holder of standing) {
      for (const [entryId, { authorityId, expiresAt }] of holder.svids) {
        if (expiresAt <= now()) continue;
        for (const other of standing) {
          if (other.trusted.has(authorityId)) continue;
          const stage = current()?.stage;
          throw new Error(
            `after ${JSON.stringify(after)}, ${stage}: ${other.id} doesn't trust ${authorityId} of ${entryId}`,
          );
        }
      }
    }
  }

  try {
    for (const action of run) {
      try {
        await take(action);
      } catch (error) {
        if (
          SpireError.from(error).code !== "FAILED_PRECONDITION" &&
          SpireError.from(error).code !== "NOT_FOUND"
        ) {
          throw error;
        }
      }
      requireTrust(action);
      await settle();
      requireTrust(action);
      const operation = current();
      if (operation && isFinished(operation)) ends.set(operation.id, operation.stage);
    }
    return [...ends.values()];
  } finally {
    await server.close();
    await fixture.close();
  }
}

describe("no agent in good standing holds an SVID that another one doesn't trust", () => {
  test("whatever happens in whatever order", async () => {
    const ends = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(runs, async (run) => {
        for (const end of await simulate(run)) ends.set(end, (ends.get(end) ?? 0) + 1);
      }),
      { numRuns: 150 },
    );
    // Runs that never get anywhere would show nothing.
    expect(ends.get("done") ?? 0).toBeGreaterThan(0);
    expect(ends.get("undone") ?? 0).toBeGreaterThan(0);
  }, 60_000);

  test("with agents that follow, each rotation comes to its end", async () => {
    const syncs = [0, 1, 2].map((agent): Action => ({ do: "sync", agent, fates: [] }));
    const rotation: Action[] = [...syncs, { do: "rotate" }, ...syncs, ...syncs, ...syncs];
    expect(await simulate([...rotation, ...rotation])).toEqual(["done", "done"]);
  });
});
