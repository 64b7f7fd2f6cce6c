/** What is audited of agent.v1: which agent, how it attests. Of join tokens nothing but their lifetime. */
import type { LogFields } from "../../core/log.ts";
import {
  AgentService,
  type AttestAgentRequest,
  type ListAgentsRequest_Filter,
} from "../../rpc/gen/spire/api/server/agent/v1/agent.ts";
import { SelectorMatch_MatchBehavior } from "../../rpc/gen/spire/api/types/selector.ts";
import type { SPIFFEID } from "../../rpc/gen/spire/api/types/spiffeid.ts";
import { agentIdFrom, workloadIdFrom } from "../api/convert-id.ts";
import { type AuditContext, auditRows, idText, nameOf, readable, selectorsText, sha256 } from "./rows.ts";

/** The agent that the call is about. */
const oneAgent = {
  fields: ({ id }: { readonly id: SPIFFEID | undefined }, { registry }: AuditContext): LogFields => ({
    spiffe_id: readable(() => agentIdFrom(id, registry.trustDomain)),
  }),
};

export const agentRows = auditRows(AgentService, {
  countAgents: { fields: ({ filter }) => filterFields(filter) },
  listAgents: { fields: ({ filter }) => filterFields(filter) },
  getAgent: oneAgent,
  deleteAgent: oneAgent,
  banAgent: oneAgent,
  attestAgent: {
    fields: (request) => ({ node_attestor_type: attestorType(request) }),
    result: ({ step }) => ({
      agent_id: step?.$case === "result" ? idText(step.value.svid?.id) : undefined,
    }),
  },
  renewAgent: { fields: ({ params }) => ({ csr: params && (sha256(params.csr) || undefined) }) },
  postStatus: {
    fields: ({ agentVersion }, { callerId, error }) => ({
      spiffe_id: callerId,
      agent_version: agentVersion !== "" && !error ? agentVersion : undefined,
    }),
  },
  createJoinToken: {
    fields: ({ ttl, agentId }, { registry }) => ({
      ttl: ttl > 0 ? ttl : undefined,
      spiffe_id:
        ttl > 0 && agentId ? readable(() => workloadIdFrom(agentId, registry.trustDomain, "")) : undefined,
    }),
  },
});

type AgentFilter = Omit<ListAgentsRequest_Filter, "byExpiresBefore">;

const filterFields = (filter: AgentFilter | undefined): LogFields => ({
  node_attestor_type: filter?.byAttestationType || undefined,
  by_banned: filter?.byBanned,
  by_can_reattest: filter?.byCanReattest,
  ...(filter?.bySelectorMatch && {
    by_selector_match: nameOf(SelectorMatch_MatchBehavior, filter.bySelectorMatch.match),
    by_selectors: selectorsText(filter.bySelectorMatch.selectors),
  }),
});

/** Of parameters that are whole. */
function attestorType({ step }: AttestAgentRequest): string | undefined {
  if (step?.$case !== "params") return undefined;
  const { data, params } = step.value;
  const isWhole = data && data.payload.length > 0 && params && params.csr.length > 0;
  return isWhole && data.type !== "" ? data.type : undefined;
}
