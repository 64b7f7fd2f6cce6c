/** spire.api.server.svid.v1.SVID: signs SVIDs for agents' workloads, for admins and for downstream servers. */

import { refuseCoveredNames, validateDnsName } from "../../core/dns-name.ts";
import type { Entry } from "../../core/entry.ts";
import { invalidArgument, notFound, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { parseSpiffeId, type SpiffeId } from "../../core/spiffe-id.ts";
import type { CertificateRequest } from "../../core/x509/csr.ts";
import {
  type BatchNewX509SVIDResponse_Result,
  type NewX509SVIDParams,
  SVIDService,
} from "../../rpc/gen/spire/api/server/svid/v1/svid.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { Authority, SvidHolder } from "../authority.ts";
import { openCertificateRequest } from "../csr.ts";
import { requireWorkload } from "../entry-rules.ts";
import type { Registry } from "../registry.ts";
import type { SvidLedger } from "../rotation/svid-ledger.ts";
import { callerId } from "./caller.ts";
import { within, workloadIdFrom } from "./convert-id.ts";
import { okStatus, toStatus } from "./convert-status.ts";
import { toBuffer, toJwtSvidMessage, toX509SvidMessage } from "./convert-svid.ts";
import { createWitSvids } from "./wit-svids.ts";

export interface SvidApiOptions {
  readonly registry: Registry;
  readonly authority: Authority;
  readonly ledger: Pick<SvidLedger, "awaitsDelivery" | "delivered">;
  /** Answers UNIMPLEMENTED to every request for a JWT-SVID. */
  readonly disableJwtSvids: boolean;
}

/** An SVID of an agent's workload, and what signed it. */
interface Issued {
  readonly entryId: string;
  readonly authorityId: string;
}

export function createSvidApi(options: SvidApiOptions): BoundService {
  const { registry, authority, ledger, disableJwtSvids } = options;
  const { trustDomain, index } = registry;

  function authorizedEntry(agent: SpiffeId, entryId: string): Entry {
    const entry = index.lookup(agent, entryId);
    if (!entry) throw notFound("entry not found or not authorized");
    return entry;
  }

  const witSvids = createWitSvids({ trustDomain, authority, authorizedEntry });

  return bindService(SVIDService, {
    async mintX509Svid({ csr, ttl }) {
      if (csr.length === 0) throw invalidArgument("missing CSR");
      const request = openCertificateRequest(csr, mintWording);
      const spiffeId = mintedId(request);
      const { publicKeyInfo, dnsNames, subjectDer } = request;
      within("CSR DNS name is invalid", () => dnsNames.forEach(validateDnsName));
      within("CSR DNS name contains a wildcard that covers another non-wildcard name", () =>
        refuseCoveredNames(dnsNames),
      );
      const signed = await authority.signWorkloadSvid({
        spiffeId,
        publicKeyInfo,
        dnsNames,
        ttlSeconds: ttl,
        ...(isEmptyName(subjectDer) ? {} : { subjectDer }),
      });
      return { svid: toX509SvidMessage(spiffeId, signed) };
    },

    async mintJwtsvid({ id, audience, ttl }) {
      refuseDisabledJwt();
      const spiffeId = workloadIdFrom(id, trustDomain, "invalid SPIFFE ID");
      return { svid: await jwtSvid(spiffeId, audience, ttl, false) };
    },

    async mintWitsvid(request) {
      return { svid: await witSvids.mint(request) };
    },

    async batchNewX509Svid({ params }, call) {
      if (params.length === 0) throw invalidArgument("missing parameters");
      const agent = callerId(call);
      const issued: Issued[] = [];
      const results = await Promise.all(params.map((item) => newX509Svid(agent, item, call.log, issued)));
      if (ledger.awaitsDelivery(agent)) {
        call.onAnswered((delivered) => {
          if (delivered) ledger.delivered(agent, issued);
        });
      }
      return { results };
    },

    async newJwtsvid({ entryId, audience }, call) {
      refuseDisabledJwt();
      const agent = callerId(call);
      const { spiffeId, jwtSvidTtl, jwtSvidIncludeJti } = authorizedEntry(agent, entryId);
      return { svid: await jwtSvid(spiffeId, audience, jwtSvidTtl, jwtSvidIncludeJti, { agent, entryId }) };
    },

    async batchNewWitsvid({ params }, call) {
      if (params.length === 0) throw invalidArgument("missing parameters");
      return { results: await witSvids.issue(callerId(call), params, call.log) };
    },

    async newDownstreamX509Ca({ csr, preferredTtl }) {
      const { publicKeyInfo } = openCertificateRequest(csr, newWording);
      const signed = await authority.signDownstreamCa(publicKeyInfo, preferredTtl);
      const bundle = registry.bundles.get(trustDomain);
      return {
        caCertChain: signed.chain.map(toBuffer),
        x509Authorities: (bundle?.x509Authorities ?? []).map(({ der }) => toBuffer(der)),
      };
    },
  });

  function refuseDisabledJwt(): void {
    if (disableJwtSvids) throw new SpireError("UNIMPLEMENTED", "JWT functionality is disabled");
  }

  async function newX509Svid(
    agent: SpiffeId,
    { entryId, csr }: NewX509SVIDParams,
    log: Logger,
    issued: Issued[],
  ): Promise<BatchNewX509SVIDResponse_Result> {
    try {
      if (entryId === "") throw invalidArgument("missing entry ID");
      if (csr.length === 0) throw invalidArgument("missing CSR");
      const { id, spiffeId, dnsNames, x509SvidTtl } = authorizedEntry(agent, entryId);
      // Of the CSR only the key counts: who gets the SVID, and with what in it, is the entry's to say.
      const { publicKeyInfo } = openCertificateRequest(csr, newWording);
      const holder = { agent, entryId: id };
      const request = { holder, spiffeId, publicKeyInfo, dnsNames, ttlSeconds: x509SvidTtl };
      const signed = await authority.signWorkloadSvid(request);
      issued.push({ entryId: id, authorityId: signed.authorityId });
      return { status: okStatus, svid: toX509SvidMessage(spiffeId, signed) };
    } catch (error) {
      return { status: toStatus(error, log), svid: undefined };
    }
  }

  async function jwtSvid(
    spiffeId: SpiffeId,
    audience: readonly string[],
    ttlSeconds: number,
    withId: boolean,
    holder?: SvidHolder,
  ) {
    requireAudience(audience);
    try {
      const signed = await authority.signJwtSvid({
        ...(holder ? { holder } : {}),
        spiffeId,
        audience,
        ttlSeconds,
        withId,
      });
      return toJwtSvidMessage(spiffeId, signed);
    } catch (error) {
      throw error instanceof SpireError ? error.within("failed to sign JWT-SVID") : error;
    }
  }

  function mintedId({ uris }: CertificateRequest): SpiffeId {
    const [uri, ...more] = uris;
    if (uri === undefined) throw invalidArgument("CSR URI SAN is required");
    if (more.length > 0) throw invalidArgument("only one URI SAN is expected");
    return within("CSR URI SAN is invalid", () => requireWorkload(parseSpiffeId(uri), trustDomain));
  }
}

const mintWording = { malformed: "malformed CSR", badSignature: "failed to verify CSR signature" };
const newWording = { malformed: "malformed CSR", badSignature: "invalid CSR signature" };

function requireAudience(audience: readonly string[]): void {
  if (audience.length === 0) throw invalidArgument("at least one audience is required");
}

/** An empty SEQUENCE (RFC 5280, 4.1.2.4). */
const isEmptyName = (der: Uint8Array): boolean => der.length <= 2;
