/** The agent's side of SyncAuthorizedEntries: whole entries while they are few, else revisions and what differs. */
import type { Entry } from "../core/entry.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import type {
  EntryRevision,
  EntryService,
  SyncAuthorizedEntriesRequest,
  SyncAuthorizedEntriesResponse,
} from "../rpc/gen/spire/api/server/entry/v1/entry.ts";
import { EntryMask, type Entry as EntryMessage } from "../rpc/gen/spire/api/types/entry.ts";
import type { Client } from "../rpc/service.ts";
import { unlessAborted } from "./abort.ts";
import { entryFromMessage } from "./messages.ts";

/** The fields that an agent needs; SPIRE's agent asks for the same. */
const outputMask = EntryMask.fromPartial({
  spiffeId: true,
  selectors: true,
  federatesWith: true,
  admin: true,
  downstream: true,
  revisionNumber: true,
  storeSvid: true,
  hint: true,
  createdAt: true,
  additionalAttributes: true,
});

/** What differs from the entries that were known. */
export interface EntryChanges {
  readonly put: readonly Entry[];
  readonly deleted: readonly string[];
}

export interface FetchEntriesOptions {
  readonly client: Client<EntryService>;
  /** The agent itself. */
  readonly owner: SpiffeId;
  readonly known: ReadonlyMap<string, Entry>;
  readonly signal: AbortSignal;
  readonly log: Logger;
}

type Conversation = ReturnType<Client<EntryService>["syncAuthorizedEntries"]>;

const timeoutMs = 30_000;

/** One conversation with the server. @throws SpireError. */
export async function fetchEntryChanges(options: FetchEntriesOptions): Promise<EntryChanges> {
  const { client, signal } = options;
  const conversation = client.syncAuthorizedEntries({ signal, timeoutMs });
  try {
    await ask(conversation, { outputMask, ids: [] }, signal);
    const first = await nextPage(conversation);
    const changes =
      first.entryRevisions.length === 0
        ? diffEntries(options, parseAll(options, first.entries))
        : await fetchDiffering(options, conversation, first);
    conversation.end();
    return changes;
  } finally {
    conversation.cancel();
  }
}

/** Asks, unless the agent is stopping: a call that is cancelled may neither send nor say so. */
async function ask(
  conversation: Conversation,
  request: SyncAuthorizedEntriesRequest,
  signal: AbortSignal,
): Promise<void> {
  await unlessAborted(conversation.send(request), signal);
}

async function nextPage(conversation: Conversation): Promise<SyncAuthorizedEntriesResponse> {
  const page = await conversation.receive();
  if (!page) throw new SpireError("UNAVAILABLE", "server ended the sync of entries early");
  return page;
}

/** An entry that this agent can't read is left out: it must not keep the others from their workloads. */
function parseAll({ owner, log }: FetchEntriesOptions, messages: readonly EntryMessage[]): Entry[] {
  return messages.flatMap((message) => {
    try {
      return [entryFromMessage(message, owner)];
    } catch (error) {
      log.error("Registration entry from the server is malformed", { entry: message.id, error });
      return [];
    }
  });
}

function diffEntries({ known }: FetchEntriesOptions, entries: readonly Entry[]): EntryChanges {
  const present = new Set(entries.map(({ id }) => id));
  return {
    put: entries.filter((entry) => !isSame(known.get(entry.id), entry)),
    deleted: [...known.keys()].filter((id) => !present.has(id)),
  };
}

/** Compares more than the revision: an entry that was deleted and made anew within a second has the same. */
function isSame(known: Entry | undefined, entry: Entry): boolean {
  return (
    known !== undefined &&
    known.revisionNumber === entry.revisionNumber &&
    known.createdAt === entry.createdAt &&
    JSON.stringify(known) === JSON.stringify(entry)
  );
}

/** The size of the first page is the server's page size; IDs are asked for in pages of the same size. */
async function fetchDiffering(
  options: FetchEntriesOptions,
  conversation: Conversation,
  first: SyncAuthorizedEntriesResponse,
): Promise<EntryChanges> {
  const revisions = [...first.entryRevisions];
  for (let page = first; page.more; ) {
    page = await nextPage(conversation);
    revisions.push(...page.entryRevisions);
  }
  const present = new Set(revisions.map(({ id }) => id));
  const wanted = revisions.filter((revision) => isStale(options.known.get(revision.id), revision));
  const ids = wanted.map(({ id }) => id).sort();
  const put: Entry[] = [];
  const pageSize = first.entryRevisions.length;
  for (let start = 0; start < ids.length; start += pageSize) {
    const page = { outputMask: undefined, ids: ids.slice(start, start + pageSize) };
    await ask(conversation, page, options.signal);
    put.push(...parseAll(options, await receiveEntries(conversation)));
  }
  return { put, deleted: [...options.known.keys()].filter((id) => !present.has(id)) };
}

const isStale = (known: Entry | undefined, revision: EntryRevision): boolean =>
  !known || known.revisionNumber !== revision.revisionNumber || known.createdAt !== revision.createdAt;

async function receiveEntries(conversation: Conversation): Promise<EntryMessage[]> {
  const entries: EntryMessage[] = [];
  for (;;) {
    const page = await nextPage(conversation);
    entries.push(...page.entries);
    if (!page.more) return entries;
  }
}
