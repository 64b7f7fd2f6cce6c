/** Joins the parts of a server that know its agents and replace its authorities. */
import { type Clock, unixSeconds } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { Metrics } from "../../core/metrics.ts";
import { parseCertificate } from "../../core/x509/certificate.ts";
import { type ActivityBook, createActivityBook } from "../../server/agent-activity.ts";
import type { Authority } from "../../server/authority.ts";
import type { ServerIdentity } from "../../server/identity.ts";
import type { Registry } from "../../server/registry.ts";
import { recordSignings } from "../../server/rotation/recorded-authority.ts";
import { createRotationRunner, type RotationRunner } from "../../server/rotation/runner.ts";
import { createRotationSteps } from "../../server/rotation/steps.ts";
import { createSvidLedger, type SvidLedger } from "../../server/rotation/svid-ledger.ts";
import { createWaitingList } from "../../server/rotation/waiting.ts";

interface Common {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface AgentRecords {
  readonly activity: ActivityBook;
  readonly ledger: SvidLedger;
  /** Notes in the ledger what it signs. */
  recording(authority: Authority): Authority;
  close(): Promise<void>;
}

/** To be opened before any authority is made: what it finds is taken to have signed before. */
export async function openAgentRecords(common: Common): Promise<AgentRecords> {
  const ledger = await createSvidLedger(common);
  const activity = await createActivityBook(common);
  return {
    activity,
    ledger,
    recording: (authority) => recordSignings(authority, ledger),
    async close() {
      await Promise.all([activity.close(), ledger.close()]);
    },
  };
}

export interface RotationParts extends Common {
  readonly records: AgentRecords;
  readonly authority: Authority;
  readonly identity: ServerIdentity;
  readonly metrics: Metrics;
}

export function openRotation(parts: RotationParts): Promise<RotationRunner> {
  const { registry, records, authority: keeper, identity, clock, log, metrics } = parts;
  const { activity, ledger } = records;
  const now = () => unixSeconds(clock);
  return createRotationRunner({
    store: registry.store.rotations,
    steps: createRotationSteps({ keeper, registry, ledger, now }),
    waitingList: createWaitingList({
      registry,
      activity,
      ledger,
      ownAuthority: () => issuerOf(identity),
      hasRelays: () => hasRelays(keeper, ledger, now()),
      clock,
    }),
    clock,
    log,
    metrics,
  });
}

/** Whether the server is part of a chain of servers: its CA is signed by another one's, or it has signed one. */
function hasRelays(keeper: Authority, ledger: SvidLedger, now: number): boolean {
  const states = (["active", "old"] as const).map((status) => keeper.state("x509", status));
  return states.some(
    (state) =>
      state !== undefined &&
      (state.upstreamChain.length > 0 || ledger.horizon(state.authorityId, "downstream") > now),
  );
}

function issuerOf(identity: ServerIdentity): string {
  const [leaf] = identity.current().chain;
  const issuer = leaf && parseCertificate(leaf).authorityKeyId;
  return issuer ? Buffer.from(issuer).toString("hex") : "";
}
