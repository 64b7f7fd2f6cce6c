/** What a rotation does to authorities. Each step can be taken again after a crash in its midst. */
import { SpireError } from "../../core/errors.ts";
import { emptyBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { authorityIds, type BundleEdit, editAuthorities, taintedIds } from "../authority-bundle.ts";
import type { AuthorityKeeper, AuthoritySteps } from "../authority-keeper.ts";
import type { AuthorityKind } from "../journal.ts";
import type { Registry } from "../registry.ts";
import type { Operation, Outcome, Replacement } from "./operation.ts";
import type { SvidLedger } from "./svid-ledger.ts";

export interface RotationSteps {
  /** @throws SpireError FAILED_PRECONDITION when the server's own authority of a kind can't be replaced by itself. */
  requireReplaceable(kinds: readonly AuthorityKind[]): void;
  /** Makes and publishes the new authorities. */
  prepare(kinds: readonly AuthorityKind[]): Promise<Outcome>;
  /**
   * Has the new ones sign, unless `refuse` says so at the last moment: then nothing happens. When it resolves, nothing
   * is being signed by the old ones.
   * @throws SpireError FAILED_PRECONDITION when a new one is gone.
   */
  activate(operation: Operation, refuse: () => boolean): Promise<"activated" | "refused">;
  taint(operation: Operation): Promise<Outcome>;
  revoke(operation: Operation): Promise<void>;
  /** @throws SpireError FAILED_PRECONDITION when `undo` would. */
  requireUndoable(operation: Operation): void;
  /**
   * The old ones sign again, untainted. A new one that has signed stays in the bundle, as what it signed is in use;
   * one that hasn't leaves it.
   * @throws SpireError FAILED_PRECONDITION when the key of an old one is gone, or its time is over.
   */
  undo(operation: Operation): Promise<void>;
}

export interface StepOptions {
  readonly keeper: AuthorityKeeper;
  readonly registry: Registry;
  readonly ledger: Pick<SvidLedger, "quiesce">;
  /** Unix seconds. */
  readonly now: () => number;
}

export function createRotationSteps({ keeper, registry, ledger, now }: StepOptions): RotationSteps {
  const { trustDomain } = registry;
  const bundle = (): TrustBundle => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);

  function requireReplaceable(kinds: readonly AuthorityKind[]): void {
    for (const kind of kinds) {
      const active = keeper.state(kind, "active");
      if (!active) throw failed(`the server has no authority of kind ${kind}`);
      if (active.upstreamChain.length > 0) {
        throw failed(
          "the X.509 authority was signed by an upstream authority: rotate that one, then use " +
            '"upstreamauthority taint" and "upstreamauthority revoke"; "rotate -kind jwt" replaces the JWT key',
        );
      }
      if (!authorityIds(bundle(), kind).has(active.authorityId)) {
        throw failed(`the ${kind} authority in force, ${active.authorityId}, is not in the trust bundle`);
      }
    }
  }

  const edited = (kind: AuthorityKind, ids: Iterable<string>, edit: BundleEdit) => (current: TrustBundle) =>
    editAuthorities(current, kind, new Set(ids), edit);

  /** All edits in one version of the bundle. */
  async function changeBundle(
    steps: AuthoritySteps,
    edits: readonly ((bundle: TrustBundle) => TrustBundle)[],
    reason: string,
  ): Promise<void> {
    await steps.changeBundle((current) => {
      const next = edits.reduce((before, edit) => edit(before), current);
      return next === current ? current : { ...next, sequenceNumber: current.sequenceNumber + 1 };
    }, `rotation: ${reason}`);
  }

  /**
   * Earlier authorities of this server: those that have signed are to go with the old one; those that were prepared
   * and never came into force can go at once.
   */
  function earlier(steps: AuthoritySteps, kind: AuthorityKind, but: readonly string[]) {
    const published = authorityIds(bundle(), kind);
    const known = steps
      .journaled(kind)
      .filter(({ authorityId }) => published.has(authorityId) && !but.includes(authorityId));
    const ids = (isPrepared: boolean) =>
      known.filter(({ status }) => (status === "prepared") === isPrepared).map((entry) => entry.authorityId);
    return { signed: ids(false), unused: ids(true) };
  }

  return {
    requireReplaceable,
    prepare: (kinds) =>
      keeper.exclusively(async (steps) => {
        requireReplaceable(kinds);
        await steps.prepare(kinds);
        const replacements: Replacement[] = [];
        const unused: ((bundle: TrustBundle) => TrustBundle)[] = [];
        for (const kind of kinds) {
          const next = steps.state(kind, "prepared")?.authorityId ?? "";
          const active = steps.state(kind, "active")?.authorityId ?? "";
          const others = earlier(steps, kind, [next, active]);
          const old = [active, ...others.signed];
          const tainted = old.filter((id) => taintedIds(bundle(), kind).has(id));
          replacements.push({ kind, next, old, tainted });
          unused.push(edited(kind, others.unused, "remove"));
        }
        await changeBundle(steps, unused, "unused authorities removed");
        return { replacements, bundleSequence: bundle().sequenceNumber };
      }),
    async activate({ replacements }, refuse) {
      const outcome = await keeper.exclusively(async (steps) => {
        const due = replacements.filter(
          ({ kind, next }) => steps.state(kind, "active")?.authorityId !== next,
        );
        for (const { kind, next } of due) {
          const isThere =
            steps.state(kind, "prepared")?.authorityId === next && authorityIds(bundle(), kind).has(next);
          if (!isThere) throw failed(`the new ${kind} authority ${next} is gone; undo the rotation`);
        }
        if (due.length > 0 && refuse()) return "refused";
        await steps.activate(due.map(({ kind }) => kind));
        return "activated";
      });
      await ledger.quiesce();
      return outcome;
    },
    taint: ({ replacements }) =>
      keeper.exclusively(async (steps) => {
        const edits = replacements.map(({ kind, old }) => edited(kind, old, "taint"));
        await changeBundle(steps, edits, "old authorities tainted");
        return { bundleSequence: bundle().sequenceNumber };
      }),
    revoke: ({ replacements }) =>
      keeper.exclusively(async (steps) => {
        const edits = replacements.map(({ kind, old }) => edited(kind, old, "remove"));
        await changeBundle(steps, edits, "old authorities revoked");
      }),
    undo: ({ kinds, replacements }) =>
      keeper.exclusively(async (steps) => {
        const signed = requireUndoable(replacements);
        const edits = replacements.map(({ kind, old, tainted }) => {
          const untainted = old.filter((id) => !tainted.includes(id));
          return edited(kind, untainted, "untaint");
        });
        for (const kind of kinds) {
          const unused = steps.state(kind, "prepared");
          if (unused) edits.push(edited(kind, [unused.authorityId], "remove"));
        }
        await changeBundle(steps, edits, "undone");
        await steps.revert(signed.map(({ kind }) => kind));
        steps.discard(kinds);
      }),
    requireUndoable: ({ replacements }) => void requireUndoable(replacements),
  };

  /** Those whose new authority signs, with the old one at hand. */
  function requireUndoable(replacements: readonly Replacement[]): readonly Replacement[] {
    const signed = replacements.filter(
      ({ kind, next }) => keeper.state(kind, "active")?.authorityId === next,
    );
    for (const { kind, old } of signed) requireOld(kind, old[0] ?? "");
    return signed;
  }

  function requireOld(kind: AuthorityKind, id: string): void {
    const old = keeper.state(kind, "old");
    if (old?.authorityId !== id || !authorityIds(bundle(), kind).has(id)) {
      throw failed(`the old ${kind} authority ${id} is not at hand any more; resume the rotation`);
    }
    if (old.notAfter <= now()) {
      throw failed(`the old ${kind} authority ${id} has expired; resume the rotation`);
    }
  }
}

const failed = (message: string): SpireError => new SpireError("FAILED_PRECONDITION", message);
