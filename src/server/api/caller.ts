/** Who is calling, for methods that only a caller with an SVID reaches. */
import { SpireError } from "../../core/errors.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { Call } from "../../rpc/service.ts";

/** @throws SpireError INTERNAL for an anonymous caller: the access table lets none get here. */
export function callerId({ caller, method }: Call): SpiffeId {
  if (!caller.svid) throw new SpireError("INTERNAL", `no caller ID for method ${method}`);
  return caller.svid.id;
}
