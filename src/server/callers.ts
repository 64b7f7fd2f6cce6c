/** What callers on the TCP port are: whose certificates are accepted, and which rights their SPIFFE IDs have. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { type AttestedNode, isBanned } from "../core/node.ts";
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

export interface LookupOptions extends CallerOptions {
  /** Told of each call of an agent in good standing. */
  readonly onAgentCall?: (svid: PeerSvid) => void;
}

export function createAccessLookups(options: LookupOptions): AccessLookups {
  const { registry, adminIds, clock, onAgentCall } = options;
  /** An entry that has expired grants nothing, although it may take a while until it is pruned. */
  const validEntries = (id: SpiffeId) =>
    registry.index
      .entriesBySpiffeId(id)
      .filter(({ expiresAt }) => expiresAt === 0 || unixSeconds(clock) <= expiresAt);
  return {
    configuredAdmin: (id) => adminIds.includes(id),
    admin: (id) => validEntries(id).some(({ admin }) => admin),
    downstream: (id) => validEntries(id).some(({ downstream }) => downstream),
    async agent(svid) {
      await authorizeAgent(registry, svid, unixSeconds(clock));
      onAgentCall?.(svid);
    },
  };
}

const refusals: Readonly<Record<AgentRefusal, string>> = {
  AGENT_EXPIRED: "agent SVID is expired",
  AGENT_NOT_ATTESTED: "agent is not attested",
  AGENT_BANNED: "agent is banned",
  AGENT_NOT_ACTIVE: "agent SVID is not active",
};

const refuse = (reason: AgentRefusal) => agentRefused(reason, refusals[reason]);

/** @throws SpireError PERMISSION_DENIED with the reason, unless the agent is known and not banned. */
export function requireStanding(registry: Registry, id: SpiffeId): AttestedNode {
  const node = registry.index.node(id);
  if (!node) throw refuse("AGENT_NOT_ATTESTED");
  if (isBanned(node)) throw refuse("AGENT_BANNED");
  return node;
}

/** The first use of a renewed SVID puts it in the place of the old one. */
async function authorizeAgent(registry: Registry, svid: PeerSvid, now: number): Promise<void> {
  if (svid.expiresAt <= now) throw refuse("AGENT_EXPIRED");
  const { serialNumber, newSerialNumber } = requireStanding(registry, svid.id);
  if (svid.serialNumber === serialNumber) return;
  if (svid.serialNumber !== newSerialNumber) throw refuse("AGENT_NOT_ACTIVE");
  await promote(registry, svid);
  // What came in between counts: a ban, an eviction, one more renewal.
  if (requireStanding(registry, svid.id).serialNumber !== svid.serialNumber) throw refuse("AGENT_NOT_ACTIVE");
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
export function createServerTls(
  options: CallerOptions & { readonly identity: ServerIdentity; readonly requirePqKem: boolean },
): ServerTls {
  const { registry, identity, adminIds, requirePqKem, clock } = options;
  const accepted = new Set([registry.trustDomain, ...adminIds.map(trustDomainOf)]);
  return {
    identity: identity.current,
    onIdentityChange: identity.onChange,
    bundle: (trustDomain) => (accepted.has(trustDomain) ? registry.bundles.get(trustDomain) : undefined),
    acceptId: (id) => trustDomainOf(id) === registry.trustDomain || adminIds.includes(id),
    requirePqKem,
    clock,
  };
}
