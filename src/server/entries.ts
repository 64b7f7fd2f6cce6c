/** Creates and updates registration entries: rules first, then the store, item by item. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import type { EntryDraft } from "../core/entry.ts";
import { SpireError } from "../core/errors.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import type { CreateOutcome, EntryStore, EntryUpdate, UpdateOutcome } from "../plugins/datastores/index.ts";
import { checkDraft, checkFields, checkTogether, type EntryRules } from "./entry-rules.ts";

interface Failure {
  readonly error: SpireError;
}

export interface EntryWriter {
  create(drafts: readonly EntryDraft[]): Promise<readonly CreateOutcome[]>;
  update(updates: readonly EntryUpdate[]): Promise<readonly UpdateOutcome[]>;
}

export function createEntryWriter(store: EntryStore, trustDomain: TrustDomain, clock: Clock): EntryWriter {
  const rulesOf = (operation: EntryRules["operation"]): EntryRules => ({
    trustDomain,
    now: unixSeconds(clock),
    operation,
  });

  return {
    async create(drafts) {
      const rules = rulesOf("create");
      const checked = drafts.map((draft) => failureOf(() => checkDraft(draft, rules)));
      return withPassed(drafts, checked, async (passed) => {
        const outcomes = await store.create(passed, rules.now);
        return outcomes.map((outcome) => ("error" in outcome ? refused("create", outcome.error) : outcome));
      });
    },

    async update(updates) {
      const rules = rulesOf("update");
      const current = await store.get(updates.map(({ id }) => id));
      const checked = updates.map(({ fields }, index) =>
        failureOf(() => {
          checkFields(fields, rules);
          const before = current[index];
          if (before) checkTogether({ ...before, ...fields }, rules);
        }),
      );
      return withPassed(updates, checked, async (passed) => {
        const outcomes = await store.update(passed);
        return outcomes.map((outcome) => ("error" in outcome ? refused("update", outcome.error) : outcome));
      });
    },
  };
}

/** SPIRE's answer to an unknown ID is the bare text. */
const refused = (operation: EntryRules["operation"], error: SpireError): Failure => ({
  error:
    error.code === "NOT_FOUND"
      ? new SpireError("NOT_FOUND", `failed to ${operation} entry`, { cause: error })
      : error.within(`failed to ${operation} entry`),
});

function failureOf(check: () => void): Failure | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    return { error: SpireError.from(error) };
  }
}

/** Gives the items that passed to `work`, and merges what comes back with the failures, in order. */
async function withPassed<Item, Outcome>(
  items: readonly Item[],
  checked: readonly (Failure | undefined)[],
  work: (passed: readonly Item[]) => Promise<readonly Outcome[]>,
): Promise<(Outcome | Failure)[]> {
  const passed = items.filter((_, index) => checked[index] === undefined);
  const outcomes = passed.length > 0 ? [...(await work(passed))] : [];
  return checked.map((failure) => {
    const outcome = failure ?? outcomes.shift();
    if (outcome === undefined) throw new SpireError("INTERNAL", "the datastore left out an item of a batch");
    return outcome;
  });
}
