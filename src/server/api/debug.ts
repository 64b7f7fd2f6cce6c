/** spire.api.server.debug.v1.Debug: what this server is and holds, for the local administrator. */
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { parseSpiffeId } from "../../core/spiffe-id.ts";
import { parseCertificate } from "../../core/x509/certificate.ts";
import { formatSubject } from "../../core/x509/name.ts";
import { DebugService, type GetInfoResponse_Cert } from "../../rpc/gen/spire/api/server/debug/v1/debug.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { Authority } from "../authority.ts";
import type { ServerIdentity } from "../identity.ts";
import type { Registry } from "../registry.ts";
import { toIdMessage } from "./convert-id.ts";

export interface DebugApiOptions {
  readonly registry: Registry;
  readonly authority: Authority;
  readonly identity: ServerIdentity;
  readonly clock: Clock;
}

export function createDebugApi({ registry, authority, identity, clock }: DebugApiOptions): BoundService {
  const startedAt = unixSeconds(clock);

  return bindService(DebugService, {
    async getInfo() {
      const root = authority.state("x509", "active");
      const chain = [...identity.current().chain, ...(root ? [root.der] : [])];
      const bundles = await registry.countBundles();
      return {
        svidChain: chain.map(describe),
        uptime: unixSeconds(clock) - startedAt,
        agentsCount: await registry.countNodes({}),
        entriesCount: await registry.countEntries({}),
        federatedBundlesCount: registry.bundles.has(registry.trustDomain) ? bundles - 1 : bundles,
      };
    },
  });
}

function describe(der: Uint8Array): GetInfoResponse_Cert {
  const { uris, notAfter, subjectDer } = parseCertificate(der);
  const [uri] = uris;
  return {
    id: uri === undefined ? undefined : toIdMessage(parseSpiffeId(uri)),
    expiresAt: notAfter,
    subject: formatSubject(subjectDer),
  };
}
