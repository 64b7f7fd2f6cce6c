/** The authority above the server's, moved by an administrator: tainted, then revoked in this server's bundle. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { revokeAuthority, taintAuthority } from "./authority-bundle.ts";
import type { AuthorityKeeper, AuthoritySteps } from "./authority-keeper.ts";
import type { JournalEntry } from "./journal.ts";

/** Both answer with the subject key identifier in lowercase hex, and take it in any case. */
export interface ForcedUpstream {
  /**
   * Marks a root that vouches for the old X.509 authority, so that agents replace all that comes from it.
   * @throws SpireError INVALID_ARGUMENT unless it vouches for the old one and not for the one in force; INTERNAL
   *   when it isn't in the bundle, or is tainted already.
   */
  taint(subjectKeyId: string): Promise<string>;
  /** Takes it out of the bundle. @throws SpireError as `taint`; INTERNAL when it is not tainted. */
  revoke(subjectKeyId: string): Promise<string>;
}

export function createForcedUpstream(keeper: AuthorityKeeper, log: Logger): ForcedUpstream {
  const step = (words: StepWords, change: typeof taintAuthority) => (subjectKeyId: string) =>
    keeper.exclusively(async (steps) => {
      const id = subjectKeyId.toLowerCase();
      await within(words.invalid, async () => requireOfOld(steps, id));
      await within(words.failed, () =>
        steps.changeBundle((bundle) => change(bundle, "x509", id), words.done),
      );
      log.info(words.done, { subject_key_id: id });
      return id;
    });
  return { taint: step(taintWords, taintAuthority), revoke: step(revokeWords, revokeAuthority) };
}

interface StepWords {
  readonly invalid: string;
  readonly failed: string;
  readonly done: string;
}

/** SPIRE's, each. */
const taintWords: StepWords = {
  invalid: "provided subject key id is not valid",
  failed: "failed to taint upstream authority",
  done: "X.509 upstream authority tainted successfully",
};
const revokeWords: StepWords = {
  invalid: "invalid subject key ID",
  failed: "failed to revoke X.509 upstream authority",
  done: "X.509 upstream authority successfully revoked",
};

/** @throws SpireError INVALID_ARGUMENT in SPIRE's words, spelling included. */
function requireOfOld({ state }: Pick<AuthoritySteps, "state">, id: string): void {
  if (id === "") throw invalidArgument("no subject key ID provided");
  if (isAbove(state("x509", "active"), id)) {
    throw invalidArgument("unable to use upstream authority singing current authority");
  }
  if (isAbove(state("x509", "prepared"), id)) {
    throw invalidArgument("only upstream authorities signing an old authority can be used");
  }
  if (!isAbove(state("x509", "old"), id)) {
    throw invalidArgument("upstream authority didn't sign the old local authority");
  }
}

/** Whether a certificate with this key identifier stands anywhere above an authority: where there are several, the root does too. */
const isAbove = (entry: JournalEntry | undefined, id: string): boolean =>
  (entry?.upstreamChain ?? []).some((der) => {
    const keyId = parseCertificate(der).authorityKeyId;
    return keyId !== undefined && Buffer.from(keyId).toString("hex") === id;
  });

async function within<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(what);
  }
}
