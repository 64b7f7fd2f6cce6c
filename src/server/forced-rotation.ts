/** Authorities moved by an administrator: prepared, activated, and the old one tainted and revoked. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import { authorityIds, revokeAuthority, taintAuthority } from "./authority-bundle.ts";
import type { AuthorityKeeper, AuthoritySteps } from "./authority-keeper.ts";
import type { AuthorityKind, JournalEntry } from "./journal.ts";

/** All but `revoke` answer with the authority concerned. */
export interface ForcedRotation {
  /**
   * Replaces an authority that was prepared before, and forgets the old one: both use the same key slot.
   * @throws SpireError INTERNAL when it can't be made, for instance because the upstream authority is away.
   */
  prepare(kind: AuthorityKind): Promise<JournalEntry>;
  /** @throws SpireError INVALID_ARGUMENT unless the ID is the prepared authority's; INTERNAL for the old one's. */
  activate(kind: AuthorityKind, authorityId: string): Promise<JournalEntry>;
  /**
   * Marks the old authority in the bundle, so that agents replace all that it signed.
   * @throws SpireError INVALID_ARGUMENT unless the ID is the old authority's; INTERNAL when it is tainted already.
   */
  taint(kind: AuthorityKind, authorityId: string): Promise<JournalEntry>;
  /**
   * Takes the old authority out of the bundle: nothing that it signed is valid any more. Of token authorities also
   * one that is no longer held here, or never was.
   * @throws SpireError INVALID_ARGUMENT unless the ID is such a one's; INTERNAL when it is not tainted.
   */
  revoke(kind: AuthorityKind, authorityId: string): Promise<void>;
}

export function createForcedRotation(keeper: AuthorityKeeper, log: Logger): ForcedRotation {
  return {
    prepare: (kind) =>
      keeper.exclusively(async ({ prepare, state }) => {
        await prepare([kind]).catch((error: unknown) => {
          const message = `failed to prepare ${names[kind]}: ${SpireError.from(error).message}`;
          throw new SpireError("INTERNAL", message, { cause: error });
        });
        return required(state(kind, "prepared"), kind);
      }),
    activate: (kind, authorityId) =>
      keeper.exclusively(async ({ activate, state }) => {
        requireId(authorityId);
        if (state(kind, "old")?.authorityId === authorityId) {
          const rule = "only Prepared authorities can be activated";
          throw new SpireError("INTERNAL", `${rule}: unsupported local authority status: OLD`);
        }
        if (state(kind, "prepared")?.authorityId !== authorityId) throw unexpectedId();
        await activate([kind]);
        return required(state(kind, "active"), kind);
      }),
    taint: (kind, authorityId) =>
      keeper.exclusively(async (steps) => {
        const old = oldToTaint(steps, kind, authorityId);
        const taint = (bundle: TrustBundle) =>
          within(`failed to taint ${names[kind]}`, () => taintAuthority(bundle, kind, authorityId));
        await steps.changeBundle(taint, `${names[kind]} tainted`);
        log.info(`${names[kind]} tainted successfully`, { local_authority_id: authorityId });
        return old;
      }),
    revoke: (kind, authorityId) =>
      keeper.exclusively(async (steps) => {
        const revoke = (bundle: TrustBundle) => {
          within("invalid authority ID", () => requireRevocable(steps, bundle, kind, authorityId));
          return within(`failed to revoke ${names[kind]}`, () => revokeAuthority(bundle, kind, authorityId));
        };
        await steps.changeBundle(revoke, `${names[kind]} revoked`);
        log.info(`${names[kind]} revoked successfully`, { local_authority_id: authorityId });
      }),
  };
}

const names: Readonly<Record<AuthorityKind, string>> = {
  x509: "X.509 authority",
  jwt: "JWT authority",
  wit: "WIT authority",
};

type Slots = Pick<AuthoritySteps, "state">;

const unexpectedId = () => invalidArgument("unexpected authority ID");

function requireId(authorityId: string): void {
  if (authorityId === "") throw invalidArgument("no authority ID provided");
}

function required(entry: JournalEntry | undefined, kind: AuthorityKind): JournalEntry {
  if (!entry) throw new SpireError("INTERNAL", `no ${names[kind]} where one was just put`);
  return entry;
}

function oldToTaint({ state }: Slots, kind: AuthorityKind, authorityId: string): JournalEntry {
  requireId(authorityId);
  if (state(kind, "active")?.authorityId === authorityId) {
    throw invalidArgument("unable to taint current local authority");
  }
  if (state(kind, "prepared")?.authorityId === authorityId) {
    const rule = "only Old local authorities can be tainted";
    throw invalidArgument(`${rule}: unsupported local authority status: PREPARED`);
  }
  const old = state(kind, "old");
  if (old?.authorityId !== authorityId) throw unexpectedId();
  return old;
}

/** SPIRE words the same refusals differently for each kind. */
const revocationRefusals: Readonly<Record<AuthorityKind, { prepared: string; unknown: string }>> = {
  x509: {
    prepared: "only Old local authority can be revoked",
    unknown: "only Old local authority can be revoked",
  },
  jwt: {
    prepared: "unable to use a prepared key",
    unknown: "no JWT authority found with provided authority ID",
  },
  wit: {
    prepared: "unable to use a prepared key",
    unknown: "no WIT authority found with provided authority ID",
  },
};

function requireRevocable(
  { state }: Slots,
  bundle: TrustBundle,
  kind: AuthorityKind,
  authorityId: string,
): void {
  requireId(authorityId);
  if (state(kind, "active")?.authorityId === authorityId) {
    throw invalidArgument("unable to use current authority");
  }
  const refusals = revocationRefusals[kind];
  if (state(kind, "prepared")?.authorityId === authorityId) throw invalidArgument(refusals.prepared);
  const isKnown =
    state(kind, "old")?.authorityId === authorityId ||
    (kind !== "x509" && authorityIds(bundle, kind).has(authorityId));
  if (!isKnown) throw invalidArgument(refusals.unknown);
}

function within<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw SpireError.from(error).within(what);
  }
}
