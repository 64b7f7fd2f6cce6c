/** Agents between messages and the domain, with their masks and filters. */
import { invalidArgument, SpireError } from "../../core/errors.ts";
import { type AttestedNode, isBanned } from "../../core/node.ts";
import type { NodeFilter, SelectorFilter } from "../../plugins/datastores/index.ts";
import type {
  AttestAgentRequest,
  ListAgentsRequest_Filter,
} from "../../rpc/gen/spire/api/server/agent/v1/agent.ts";
import type { AgentMask, Agent as AgentMessage } from "../../rpc/gen/spire/api/types/agent.ts";
import type { SelectorMatch } from "../../rpc/gen/spire/api/types/selector.ts";
import { toSelectorFilter } from "./convert-filter.ts";
import { toIdMessage, within } from "./convert-id.ts";

/** What the mask names, all without one; the ID always. */
export function toAgentMessage(node: AttestedNode, mask?: AgentMask): AgentMessage {
  const has = (field: keyof AgentMask) => !mask || mask[field];
  return {
    id: toIdMessage(node.id),
    attestationType: has("attestationType") ? node.attestationType : "",
    x509svidSerialNumber: has("x509svidSerialNumber") ? node.serialNumber : "",
    x509svidExpiresAt: has("x509svidExpiresAt") ? node.expiresAt : 0,
    selectors: has("selectors") ? node.selectors.map(({ type, value }) => ({ type, value })) : [],
    banned: has("banned") && isBanned(node),
    canReattest: has("canReattest") && node.canReattest,
    agentVersion: has("agentVersion") ? node.agentVersion : "",
  };
}

/**
 * @param failure how the refusal of an empty set of selectors begins.
 * @throws SpireError INVALID_ARGUMENT for malformed selectors, INTERNAL for an empty set of them.
 */
export function toNodeFilter(filter: ListAgentsRequest_Filter | undefined, failure: string): NodeFilter {
  if (!filter) return {};
  const { byAttestationType, bySelectorMatch, byBanned, byCanReattest, byExpiresBefore } = filter;
  const expiresBefore = parseGoTime(byExpiresBefore);
  return {
    ...(byAttestationType === "" ? {} : { attestationType: byAttestationType }),
    ...(bySelectorMatch ? { selectors: nodeSelectorFilter(bySelectorMatch, failure) } : {}),
    ...(byBanned === undefined ? {} : { banned: byBanned }),
    ...(byCanReattest === undefined ? {} : { canReattest: byCanReattest }),
    ...(expiresBefore === undefined ? {} : { expiresBefore }),
  };
}

const nodeSelectorFilter = (match: SelectorMatch, failure: string): SelectorFilter => {
  // SPIRE's own code for this; its clients may depend on it.
  if (match.selectors.length === 0) {
    throw new SpireError("INTERNAL", `${failure} cannot list by empty selectors set`);
  }
  return within("failed to parse selectors", () => toSelectorFilter(match));
};

/** Go's layout `2006-01-02 15:04:05 -0700 -07`; unix seconds. SPIRE ignores what doesn't have that form. */
function parseGoTime(text: string): number | undefined {
  const parts = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}) ([+-]\d{2})(\d{2}) [+-]\d{2}$/.exec(text);
  if (!parts) return undefined;
  const [, date, time, hours, minutes] = parts;
  const milliseconds = Date.parse(`${date}T${time}${hours}:${minutes}`);
  return Number.isNaN(milliseconds) ? undefined : Math.floor(milliseconds / 1000);
}

/** What the first message of an attestation carries. */
export interface AttestationParams {
  readonly type: string;
  readonly payload: Uint8Array;
  readonly csr: Uint8Array;
}

/** @throws SpireError INVALID_ARGUMENT `malformed param: …` naming what is missing. */
export function toAttestationParams({ step }: AttestAgentRequest): AttestationParams {
  const missing = (what: string) => invalidArgument(`malformed param: missing ${what}`);
  if (step?.$case !== "params") throw missing("params");
  const { data, params } = step.value;
  if (!data) throw missing("attestation data");
  if (!params) throw missing("X509-SVID parameters");
  if (params.csr.length === 0) throw missing("CSR");
  if (data.type === "") throw missing("attestation data type");
  if (data.payload.length === 0) throw missing("attestation data payload");
  return { type: data.type, payload: data.payload, csr: params.csr };
}
