/** Makes a server's entries equal to those of a file: works out the difference and applies all of it or nothing. */
import type { Entry, EntryDraft } from "../../core/entry.ts";
import { SpireError } from "../../core/errors.ts";
import type { EntryUpdate } from "../../plugins/datastores/index.ts";
import type { Registry } from "../../server/registry.ts";
import { entryKey, type FileEntry } from "./entries-file.ts";

/** An entry that changes in place. */
interface PlannedUpdate {
  readonly current: Entry;
  readonly wanted: FileEntry;
}

export interface EntriesPlan {
  readonly create: readonly FileEntry[];
  readonly update: readonly PlannedUpdate[];
  readonly remove: readonly Entry[];
  /** Entries that are as the file wants them. */
  readonly keep: readonly Entry[];
}

/**
 * Pairs what the file had (`current`) with what it has now: by entry ID where the file names one, else by equal
 * key, else by SPIFFE ID, so that an identity whose selectors change keeps its entry.
 */
export function planEntries(current: readonly Entry[], wanted: readonly FileEntry[]): EntriesPlan {
  const free = new Set(current);
  const pairs = new Map<FileEntry, Entry>();
  const pair = (fits: (entry: Entry, file: FileEntry) => boolean) => {
    for (const file of wanted) {
      if (pairs.has(file)) continue;
      const found = [...free].find((entry) => fits(entry, file));
      if (!found) continue;
      pairs.set(file, found);
      free.delete(found);
    }
  };
  pair((entry, file) => file.hasId && entry.id === file.draft.id);
  pair((entry, file) => !file.hasId && entryKey(entry) === entryKey(file.draft));
  pair((entry, file) => !file.hasId && entry.spiffeId === file.draft.spiffeId);
  const matched = [...pairs].map(([file, entry]) => ({ current: entry, wanted: file }));
  return {
    create: wanted.filter((file) => !pairs.has(file)),
    update: matched.filter(({ current: entry, wanted: file }) => !isSame(entry, file.draft)),
    remove: [...free],
    keep: matched
      .filter(({ current: entry, wanted: file }) => isSame(entry, file.draft))
      .map((m) => m.current),
  };
}

/** Everything of an entry that a file decides. */
function contentOf(entry: EntryDraft): Omit<EntryDraft, "id"> {
  return {
    spiffeId: entry.spiffeId,
    parentId: entry.parentId,
    selectors: entry.selectors,
    x509SvidTtl: entry.x509SvidTtl,
    jwtSvidTtl: entry.jwtSvidTtl,
    federatesWith: entry.federatesWith,
    admin: entry.admin,
    downstream: entry.downstream,
    expiresAt: entry.expiresAt,
    dnsNames: entry.dnsNames,
    storeSvid: entry.storeSvid,
    hint: entry.hint,
    disableX509SvidPrefetch: entry.disableX509SvidPrefetch,
    jwtSvidIncludeJti: entry.jwtSvidIncludeJti,
  };
}

const isSame = (entry: Entry, draft: EntryDraft): boolean =>
  Bun.deepEquals(contentOf(entry), contentOf(draft));

/**
 * Applies a plan. New entries come before old ones go, so that nobody is without an identity in between.
 * @returns the IDs of the entries that belong to the file from now on; an equal entry of somebody else's is
 * not among them.
 * @throws SpireError with the place of the entry that the server refused; then nothing has changed.
 */
export async function applyPlan(registry: Registry, plan: EntriesPlan): Promise<readonly string[]> {
  const created = await create(registry, plan.create);
  try {
    await update(registry, plan.update);
  } catch (error) {
    await registry.deleteEntries(created);
    throw error;
  }
  await registry.deleteEntries(plan.remove.map(({ id }) => id));
  return [...plan.keep.map(({ id }) => id), ...plan.update.map(({ current }) => current.id), ...created];
}

async function create(registry: Registry, wanted: readonly FileEntry[]): Promise<string[]> {
  if (wanted.length === 0) return [];
  const outcomes = await registry.createEntries(wanted.map(({ draft }) => draft));
  const created = outcomes.flatMap((outcome) =>
    "entry" in outcome && !outcome.existing ? [outcome.entry.id] : [],
  );
  const refused = outcomes.findIndex((outcome) => "error" in outcome);
  if (refused < 0) return created;
  await registry.deleteEntries(created);
  throw refusal(wanted[refused], outcomes[refused]);
}

async function update(registry: Registry, planned: readonly PlannedUpdate[]): Promise<void> {
  if (planned.length === 0) return;
  const updates = planned.map(({ current, wanted }) => ({ id: current.id, fields: contentOf(wanted.draft) }));
  const outcomes = await registry.updateEntries(updates);
  const refused = outcomes.findIndex((outcome) => "error" in outcome);
  if (refused < 0) return;
  const done = planned.filter((_, index) => "entry" in (outcomes[index] ?? {}));
  const back: EntryUpdate[] = done.map(({ current }) => ({ id: current.id, fields: contentOf(current) }));
  await registry.updateEntries(back);
  throw refusal(planned[refused]?.wanted, outcomes[refused]);
}

function refusal(entry: FileEntry | undefined, outcome: object | undefined): SpireError {
  const reason = outcome !== undefined && "error" in outcome ? outcome.error : undefined;
  return SpireError.from(reason).within(entry?.place ?? "entries file");
}
