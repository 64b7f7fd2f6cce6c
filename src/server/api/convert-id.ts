/** SPIFFE IDs and trust domains between messages and the domain, with the checks that a role asks for. */
import { invalidArgument, SpireError } from "../../core/errors.ts";
import {
  makeSpiffeId,
  parseTrustDomainOrId,
  pathOf,
  type SpiffeId,
  type TrustDomain,
  trustDomainOf,
} from "../../core/spiffe-id.ts";
import type { SPIFFEID } from "../../rpc/gen/spire/api/types/spiffeid.ts";
import { requireAgent, requireMember, requireWorkload } from "../entry-rules.ts";

export const toIdMessage = (id: SpiffeId): SPIFFEID => ({ trustDomain: trustDomainOf(id), path: pathOf(id) });

/** @throws SpireError INVALID_ARGUMENT for a missing or malformed ID. */
function fromIdMessage(message: SPIFFEID | undefined): SpiffeId {
  if (!message) throw invalidArgument("request must specify SPIFFE ID");
  return makeSpiffeId(parseTrustDomainOrId(message.trustDomain), message.path);
}

/** @throws SpireError INVALID_ARGUMENT `<what>: …` unless the ID may be a workload's in the trust domain. */
export const workloadIdFrom = (
  message: SPIFFEID | undefined,
  trustDomain: TrustDomain,
  what: string,
): SpiffeId => within(what, () => requireWorkload(fromIdMessage(message), trustDomain));

/** @throws SpireError INVALID_ARGUMENT `<what>: …` unless the ID lies in the trust domain and has a path. */
export const memberIdFrom = (
  message: SPIFFEID | undefined,
  trustDomain: TrustDomain,
  what: string,
): SpiffeId => within(what, () => requireMember(fromIdMessage(message), trustDomain));

/** @throws SpireError INVALID_ARGUMENT `invalid agent ID: …` unless the ID is an agent's in the trust domain. */
export const agentIdFrom = (message: SPIFFEID | undefined, trustDomain: TrustDomain): SpiffeId =>
  within("invalid agent ID", () => requireAgent(fromIdMessage(message), trustDomain));

/** @throws SpireError INVALID_ARGUMENT `trust domain argument is not valid: …`. */
export const trustDomainFrom = (text: string): TrustDomain =>
  within("trust domain argument is not valid", () => parseTrustDomainOrId(text));

/** Runs `work`; an error of it gets `what: ` before its message. */
export function within<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw SpireError.from(error).within(what);
  }
}
