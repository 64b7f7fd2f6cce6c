/** spire.api.server.entry.v1.Entry: registration entries, and what of them an agent may have. */
import type { Entry } from "../../core/entry.ts";
import { invalidArgument, notFound, statusCodes } from "../../core/errors.ts";
import { sortSelectors } from "../../core/selector.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import {
  EntryService,
  type SyncAuthorizedEntriesRequest,
  type SyncAuthorizedEntriesResponse,
} from "../../rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { EntryMask, Entry as EntryMessage } from "../../rpc/gen/spire/api/types/entry.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import { requireStanding } from "../callers.ts";
import type { Registry } from "../registry.ts";
import { callerId } from "./caller.ts";
import { createEntryConverter, toEntryDraft, toEntryFields, toEntryFilter } from "./convert-entry.ts";
import { listing, toPageRequest } from "./convert-filter.ts";
import { attempt, nextOf, okStatus, toStatus, valuesOf } from "./convert-status.ts";

/** Entries, or revisions of them, in one message of a sync. */
const syncPageSize = 500;

/** SPIRE's text, with the layers that it names. */
const listFailure = "failed to list entries: datastore-sql: rpc error: code = InvalidArgument desc =";

const similarEntry = { code: statusCodes.ALREADY_EXISTS, message: "similar entry already exists" };

export interface EntryApiOptions {
  readonly registry: Registry;
}

export function createEntryApi({ registry }: EntryApiOptions): BoundService {
  const { trustDomain, index } = registry;
  const { toMessage } = createEntryConverter();

  return bindService(EntryService, {
    async countEntries({ filter }) {
      return { count: await registry.countEntries(toEntryFilter(filter, trustDomain)) };
    },

    async listEntries(request) {
      const filter = toEntryFilter(request.filter, trustDomain);
      const page = await listing(listFailure, registry.listEntries(filter, toPageRequest(request)));
      return {
        entries: page.items.map((entry) => toMessage(entry, request.outputMask)),
        nextPageToken: page.nextToken,
      };
    },

    async getEntry({ id, outputMask }) {
      if (id === "") throw invalidArgument("missing ID");
      const entry = await registry.getEntry(id);
      if (!entry) throw notFound("entry not found");
      return toMessage(entry, outputMask);
    },

    async batchCreateEntry({ entries, outputMask }, { log }) {
      const drafts = entries.map((entry) => attempt(() => toEntryDraft(entry, trustDomain)));
      const outcomes = (await registry.createEntries(valuesOf(drafts))).values();
      return {
        results: drafts.map((draft) => {
          const outcome = "error" in draft ? draft : nextOf(outcomes);
          if ("error" in outcome) return { status: toStatus(outcome.error, log), entry: undefined };
          const message = toMessage(outcome.entry, outputMask);
          if (outcome.existing) return { status: similarEntry, entry: message };
          return { status: okStatus, entry: withSortedSets(message) };
        }),
      };
    },

    async batchUpdateEntry({ entries, inputMask, outputMask }, { log }) {
      const updates = entries.map((entry) =>
        attempt(() => ({ id: entry.id, fields: toEntryFields(entry, trustDomain, inputMask) })),
      );
      const outcomes = (await registry.updateEntries(valuesOf(updates))).values();
      return {
        results: updates.map((update) => {
          const outcome = "error" in update ? update : nextOf(outcomes);
          if ("error" in outcome) return { status: toStatus(outcome.error, log), entry: undefined };
          return { status: okStatus, entry: withSortedSets(toMessage(outcome.entry, outputMask)) };
        }),
      };
    },

    async batchDeleteEntry({ ids }, { log }) {
      const named = ids.filter((id) => id !== "");
      const outcomes = (await registry.deleteEntries(named)).values();
      return {
        results: ids.map((id) => {
          if (id === "") return { id, status: toStatus(invalidArgument("missing entry ID"), log) };
          const wasThere = nextOf(outcomes);
          return { id, status: wasThere ? okStatus : toStatus(notFound("entry not found"), log) };
        }),
      };
    },

    async getAuthorizedEntries({ outputMask }, call) {
      const entries = index.forAgent(callerId(call));
      return { entries: entries.map((entry) => toMessage(entry, outputMask)) };
    },

    async *syncAuthorizedEntries(requests, call) {
      yield* sync(requests, callerId(call));
    },
  });

  /**
   * Everything at once when it fits one message; else revisions first, and then the entries that the agent
   * asks for, page by page, for as long as it asks.
   */
  async function* sync(
    requests: AsyncIterable<SyncAuthorizedEntriesRequest>,
    agent: SpiffeId,
  ): AsyncGenerator<SyncAuthorizedEntriesResponse> {
    let mask: EntryMask | undefined;
    let begun = false;
    for await (const request of requests) {
      if (begun) {
        // The stream may have been open for long: what has become of its agent since?
        requireStanding(registry, agent);
        const wanted = [...request.ids]
          .sort()
          .map((id) => index.lookup(agent, id))
          .filter((entry) => entry !== undefined);
        yield* pages(wanted, (entries) => ({ entries: entries.map((entry) => toMessage(entry, mask)) }));
        continue;
      }
      begun = true;
      mask = checkFirst(request);
      const entries = index.forAgent(agent);
      if (entries.length <= syncPageSize) {
        yield { entries: entries.map((entry) => toMessage(entry, mask)), entryRevisions: [], more: false };
        return;
      }
      yield* pages(entries, (page) => ({ entryRevisions: page.map(toRevision) }));
    }
  }
}

/** SPIRE answers to who writes an entry with its sets sorted, to who reads it in the order that was given. */
const withSortedSets = (entry: EntryMessage): EntryMessage => ({
  ...entry,
  selectors: sortSelectors(entry.selectors),
  dnsNames: [...entry.dnsNames].sort(),
});

function checkFirst({ ids, outputMask }: SyncAuthorizedEntriesRequest): EntryMask | undefined {
  if (ids.length > 0) throw invalidArgument("specifying IDs on initial request is not supported");
  if (outputMask && !outputMask.revisionNumber) throw invalidArgument("revision number cannot be masked");
  return outputMask;
}

const toRevision = ({ id, revisionNumber, createdAt }: Entry) => ({ id, revisionNumber, createdAt });

/** At least one message; `more` on all but the last. */
function* pages(
  entries: readonly Entry[],
  fill: (page: readonly Entry[]) => Partial<SyncAuthorizedEntriesResponse>,
): Generator<SyncAuthorizedEntriesResponse> {
  let from = 0;
  do {
    const page = entries.slice(from, from + syncPageSize);
    from += syncPageSize;
    yield { entries: [], entryRevisions: [], ...fill(page), more: from < entries.length };
  } while (from < entries.length);
}
