/** What is audited of svid.v1: for whom, for which key (a CSR by its hash), and until when. Never a token. */
import type { LogFields } from "../../core/log.ts";
import { parseCertificate } from "../../core/x509/certificate.ts";
import { parseCertificateRequest } from "../../core/x509/csr.ts";
import { formatSubject } from "../../core/x509/name.ts";
import { SVIDService } from "../../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { SPIFFEID } from "../../rpc/gen/spire/api/types/spiffeid.ts";
import { workloadIdFrom } from "../api/convert-id.ts";
import { type AuditContext, auditRows, idText, itemsOf, readable, sha256 } from "./rows.ts";

export const svidRows = auditRows(SVIDService, {
  mintX509Svid: {
    fields: ({ csr, ttl }) => ({ csr: sha256(csr), ttl }),
    result: ({ svid }, { csr }) => ({
      spiffe_id: idText(svid?.id),
      dns_name: parseCertificateRequest(csr).dnsNames.join(","),
      subject: svid?.certChain[0] && formatSubject(parseCertificate(svid.certChain[0]).subjectDer),
      expires_at: svid && goTime(svid.expiresAt),
    }),
  },
  mintJwtsvid: {
    fields: ({ id, audience, ttl }, context) =>
      isOff(context) ? {} : { ...mintFields(id, ttl, context), audience: audience.join(",") || undefined },
  },
  mintWitsvid: {
    fields: ({ id, ttl }, context) => (isOff(context) ? {} : mintFields(id, ttl, context)),
  },
  batchNewX509Svid: {
    items: ({ params }, { results }) =>
      itemsOf(params, results, ({ csr, entryId }, { svid }) => ({
        csr: sha256(csr),
        entry_id: entryId,
        spiffe_id: idText(svid?.id),
        expires_at: svid?.expiresAt,
      })),
  },
  newJwtsvid: {
    fields: ({ entryId, audience }, context) => ({
      entry_id: entryId,
      audience: audience.join(","),
      spiffe_id: isOff(context) ? undefined : entryOf(entryId, context)?.spiffeId,
    }),
    result: (_, { entryId }, context) => ({ ttl: entryOf(entryId, context)?.jwtSvidTtl }),
  },
  batchNewWitsvid: {
    items: ({ params }, { results }) =>
      itemsOf(params, results, ({ entryId }, { svid }) => ({
        entry_id: entryId,
        spiffe_id: idText(svid?.id),
        expires_at: svid?.expiresAt,
      })),
  },
  newDownstreamX509Ca: {
    fields: ({ csr }, { registry }) => ({
      csr: sha256(csr),
      trust_domain_id: `spiffe://${registry.trustDomain}`,
    }),
    result: ({ caCertChain: [leaf] }) => ({ expires_at: leaf && parseCertificate(leaf).notAfter }),
  },
});

/** The server issues no SVIDs of this kind, and doesn't look at what was asked. */
const isOff = ({ error }: AuditContext): boolean => error?.code === "UNIMPLEMENTED";

const mintFields = (id: SPIFFEID | undefined, ttl: number, { registry }: AuditContext): LogFields => ({
  ttl,
  spiffe_id: id && readable(() => workloadIdFrom(id, registry.trustDomain, "")),
});

const entryOf = (entryId: string, { registry, callerId }: AuditContext) =>
  callerId && registry.index.lookup(callerId, entryId);

/** RFC 3339 in whole seconds. */
const goTime = (unix: number): string => new Date(unix * 1000).toISOString().replace(".000Z", "Z");
