/** Keeps an administrator's single steps out of the way of a rotation that is under way. */
import { SpireError } from "../../core/errors.ts";
import type { ForcedRotation } from "../forced-rotation.ts";
import type { AuthorityKind } from "../journal.ts";
import type { RotationRunner } from "./runner.ts";

/** @throws SpireError FAILED_PRECONDITION from each step of a kind that `holder` holds. */
export function guardRotation(steps: ForcedRotation, holder: Pick<RotationRunner, "holds">): ForcedRotation {
  function requireFree(kind: AuthorityKind): void {
    if (!holder.holds(kind)) return;
    throw new SpireError(
      "FAILED_PRECONDITION",
      `a rotation of the ${kind} authority is under way: see "rotate status"; it ends by itself or by "rotate undo"`,
    );
  }
  return {
    async prepare(kind) {
      requireFree(kind);
      return steps.prepare(kind);
    },
    async activate(kind, authorityId) {
      requireFree(kind);
      return steps.activate(kind, authorityId);
    },
    async taint(kind, authorityId) {
      requireFree(kind);
      return steps.taint(kind, authorityId);
    },
    async revoke(kind, authorityId) {
      requireFree(kind);
      return steps.revoke(kind, authorityId);
    },
  };
}
