/** Why a server turns an agent away: the reason that goes with PERMISSION_DENIED. */
import { SpireError } from "../core/errors.ts";
import {
  PermissionDeniedDetails,
  PermissionDeniedDetails_Reason as Reason,
} from "../rpc/gen/spire/api/types/status.ts";

/** `banned` is for good; after any other reason a new attestation may help. */
export type Denial = "banned" | "attest";

const typeName = "spire.api.types.PermissionDeniedDetails";

/** Undefined when the error is no refusal of this agent as such. */
export function denialOf(caught: unknown): Denial | undefined {
  if (!(caught instanceof SpireError) || caught.code !== "PERMISSION_DENIED") return undefined;
  const detail = caught.details.find(({ typeUrl }) => typeUrl.endsWith(`/${typeName}`));
  if (!detail) return undefined;
  switch (PermissionDeniedDetails.decode(detail.value).reason) {
    case Reason.AGENT_BANNED:
      return "banned";
    case Reason.AGENT_EXPIRED:
    case Reason.AGENT_NOT_ACTIVE:
    case Reason.AGENT_NOT_ATTESTED:
    case Reason.AGENT_MUST_REATTEST:
      return "attest";
    default:
      return undefined;
  }
}
