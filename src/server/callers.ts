/** What callers on the TCP port are: whose certificates are accepted, and which rights their SPIFFE IDs have. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { isBanned } from "../core/node.ts";
import { type SpiffeId, trustDomainOf } from "../core/spiffe-id.ts";
import { type AccessLookups, type AgentRefusal, agentRefused } from "../rpc/access.ts";
import type { PeerSvid } from "../rpc/service.ts";
import type { ServerTls } from "../rpc/tls.ts";
import type { ServerIdentity } from "./identity.ts";
import type { Registry } from "./registry.ts";

export interface CallerOptions {
  readonly registry: Registry;
  /** Administrators by configuration; of this trust domain or a federated one. */
  readonly adminIds: readonly SpiffeId[];
  readonly clock: Clock;
}

export function createAccessLookups({ registry, adminIds, clock }: CallerOptions): AccessLookups {
  const { index } = registry;
  return {
    configuredAdmin: (id) => adminIds.includes(id),
    admin: (id) => index.entriesBySpiffeId(id).some(({ admin }) => admin),
    downstream: (id) => index.entriesBySpiffeId(id).some(({ downstream }) => downstream),
    agent: (svid) => authorizeAgent(registry, svid, unixSeconds(clock)),
  };
}

const refusals: Readonly<Record<AgentRefusal, string>> = {
  AGENT_EXPIRED: "agent SVID is expired",
  AGENT_NOT_ATTESTED: "agent is not attested",
  AGENT_BANNED: "agent is banned",
  AGENT_NOT_ACTIVE: "agent SVID is not active",
};

/** The first use of a renewed SVID puts it in the place of the old one. */
async function authorizeAgent(registry: Registry, svid: PeerSvid, now: number): Promise<void> {
  const refuse = (reason: AgentRefusal) => agentRefused(reason, refusals[reason]);
  if (svid.expiresAt <= now) throw refuse("AGENT_EXPIRED");
  const node = registry.index.node(svid.id);
  if (!node) throw refuse("AGENT_NOT_ATTESTED");
  if (isBanned(node)) throw refuse("AGENT_BANNED");
  if (svid.serialNumber === node.serialNumber) return;
  if (svid.serialNumber !== node.newSerialNumber) throw refuse("AGENT_NOT_ACTIVE");
  await promote(registry, svid);
}

/** In one transaction: a ban at the same moment must not be undone. */
async function promote(registry: Registry, { id, serialNumber }: PeerSvid): Promise<void> {
  await registry.store.transaction(async ({ nodes }) => {
    const node = await nodes.get(id);
    if (node?.newSerialNumber !== serialNumber || isBanned(node)) return;
    const { newExpiresAt } = node;
    await nodes.update(id, { serialNumber, expiresAt: newExpiresAt, newSerialNumber: "", newExpiresAt: 0 });
  });
  await registry.catchUp();
}

/** TLS of the TCP port: clients of this trust domain, and administrators that the configuration names. */
export function createServerTls(options: CallerOptions & { readonly identity: ServerIdentity }): ServerTls {
  const { registry, identity, adminIds, clock } = options;
  const accepted = new Set([registry.trustDomain, ...adminIds.map(trustDomainOf)]);
  return {
    identity: identity.current,
    onIdentityChange: identity.onChange,
    bundle: (trustDomain) => (accepted.has(trustDomain) ? registry.bundles.get(trustDomain) : undefined),
    acceptId: (id) => trustDomainOf(id) === registry.trustDomain || adminIds.includes(id),
    clock,
  };
}
