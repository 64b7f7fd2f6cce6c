/** `spire server entry …`: create, update, show, count and delete registration entries. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseSpiffeId, trustDomainOf } from "../core/spiffe-id.ts";
import type { Channel } from "../rpc/dial.ts";
import { EntryService } from "../rpc/gen/spire/api/server/entry/v1/entry.ts";
import { Entry } from "../rpc/gen/spire/api/types/entry.ts";
import { command, type Invocation, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { parseEntryJson, parseJson, spiffeIdMessage, splitSelector } from "./entry-data.ts";
import { asAskedFor, formatEntry, inListingOrder, printDeletions, printResults } from "./entry-print.ts";
import { readTextFile } from "./files.ts";
import { boolFlag, intFlag, listFlag, stringFlag } from "./flags.ts";
import { quote } from "./go-text.ts";
import { federationMatches, matchNames, parseMatch, selectorMatches } from "./matching.ts";
import { requireInt32 } from "./mint.ts";
import { counted, print, reply } from "./print.ts";

const draftFlags = {
  ...serverFlags,
  entryID: stringFlag("The Registration Entry ID of the record; generated if not set"),
  parentID: stringFlag("The SPIFFE ID of this record's parent"),
  spiffeID: stringFlag("The SPIFFE ID that this record represents"),
  x509SVIDTTL: intFlag("The lifetime, in seconds, for X.509-SVIDs issued by this entry"),
  jwtSVIDTTL: intFlag("The lifetime, in seconds, for JWT-SVIDs issued by this entry"),
  data: stringFlag("Path to a file with entries in JSON (optional); - reads standard input"),
  selector: listFlag("A colon-delimited type:value selector. Can be used more than once"),
  federatesWith: listFlag("SPIFFE ID of a trust domain to federate with. Can be used more than once"),
  admin: boolFlag(
    "If set, the SPIFFE ID in this entry will be granted access to the SPIRE Server's management APIs",
  ),
  storeSVID: boolFlag("If set, the SVID issued by this entry is stored by an SVIDStore plugin"),
  downstream: boolFlag("If set, the entry describes a downstream SPIRE server"),
  entryExpiry: intFlag("An expiry, from epoch in seconds, for the resulting registration entry to be pruned"),
  dns: listFlag("A DNS name that will be included in SVIDs issued by this entry. Can be used more than once"),
  hint: stringFlag("The entry hint, used to tell entries with the same SPIFFE ID apart"),
  disableX509SVIDPrefetch: boolFlag(
    "If set, agents don't fetch the X.509-SVID before a workload asks for it",
  ),
  jwtSVIDIncludeJTI: boolFlag("If set, JWT-SVIDs issued by this entry carry a jti claim"),
};

const createFlags = {
  ...draftFlags,
  node: boolFlag("If set, this entry is applied to matching nodes rather than to workloads"),
};

type Draft = Invocation<typeof draftFlags>["flags"];

export const entryCreate = command({
  name: "entry create",
  summary: "Creates registration entries",
  example:
    "entry create -parentID spiffe://example.org/spire/agent/join_token/a1b2 -spiffeID spiffe://example.org/web -selector unix:uid:1000",
  flags: createFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const entries =
      flags.data === "" ? [createdEntry(flags, flags.node)] : await dataEntries(flags.data, terminal);
    return withServer(invocation, async (channel) => {
      const response = await channel
        .client(EntryService)
        .batchCreateEntry({ entries, outputMask: undefined });
      const results = asAskedFor(response.results, entries);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(EntryService.batchCreateEntry, { results })],
        pretty: () => printResults(results, "create", terminal),
      });
    });
  },
});

export const entryUpdate = command({
  name: "entry update",
  summary: "Updates registration entries",
  example:
    "entry update -entryID web -parentID spiffe://example.org/spire/agent/join_token/a1b2 -spiffeID spiffe://example.org/web -selector unix:uid:1000 -x509SVIDTTL 600",
  flags: draftFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const entries = flags.data === "" ? [updatedEntry(flags)] : await dataEntries(flags.data, terminal);
    return withServer(invocation, async (channel) => {
      const request = { entries, inputMask: undefined, outputMask: undefined };
      const response = await channel.client(EntryService).batchUpdateEntry(request);
      const results = asAskedFor(response.results, entries);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(EntryService.batchUpdateEntry, { results })],
        pretty: () => printResults(results, "update", terminal),
      });
    });
  },
});

const filterFlags = {
  ...serverFlags,
  parentID: stringFlag("The Parent ID of the records"),
  spiffeID: stringFlag("The SPIFFE ID of the records"),
  selector: listFlag("A colon-delimited type:value selector. Can be used more than once"),
  federatesWith: listFlag(
    "SPIFFE ID of a trust domain that the records federate with. Can be used more than once",
  ),
  downstream: boolFlag("Only downstream entries"),
  matchSelectorsOn: stringFlag("How selectors match: exact, any, superset or subset", "superset", matchNames),
  matchFederatesWithOn: stringFlag(
    "How federated trust domains match: exact, any, superset or subset",
    "superset",
    matchNames,
  ),
  hint: stringFlag("The hint of the records"),
};

export const entryShow = command({
  name: "entry show",
  summary: "Displays configured registration entries",
  example: "entry show -selector unix:uid:1000 -matchSelectorsOn any",
  flags: { ...filterFlags, entryID: stringFlag("The Registration Entry ID of the record") },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const filter = entryFilter(flags);
    const narrowed = Object.values(filter).some((part) => part !== undefined);
    if (flags.entryID !== "" && narrowed)
      throw invalidArgument("the -entryID flag can't be combined with others");
    return withServer(invocation, async (channel) => {
      const found =
        flags.entryID === "" ? await listEntries(channel, filter) : [await getEntry(channel, flags.entryID)];
      const entries = inListingOrder(found);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(EntryService.listEntries, { entries, nextPageToken: "" })],
        pretty: () => {
          terminal.out(`Found ${counted(entries.length, "entry", "entries")}\n`);
          for (const entry of entries) terminal.out(formatEntry(entry));
        },
      });
    });
  },
});

export const entryCount = command({
  name: "entry count",
  summary: "Counts registration entries",
  example: "entry count -downstream",
  flags: filterFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const filter = entryFilter(flags);
    return withServer(invocation, async (channel) => {
      const response = await channel.client(EntryService).countEntries({ filter });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(EntryService.countEntries, response)],
        pretty: () =>
          terminal.out(`${counted(response.count, "registration entry", "registration entries")}\n`),
      });
    });
  },
});

export const entryDelete = command({
  name: "entry delete",
  summary: "Deletes registration entries",
  example: "entry delete -entryID web",
  flags: {
    ...serverFlags,
    entryID: stringFlag("The Registration Entry ID of the record to delete"),
    file: stringFlag('Path to a file with entry IDs in JSON, {"ids": […]}; - reads standard input'),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const ids = await idsToDelete(flags.entryID, flags.file, terminal);
    return withServer(invocation, async (channel) => {
      const response = await channel.client(EntryService).batchDeleteEntry({ ids });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(EntryService.batchDeleteEntry, response)],
        pretty: () => printDeletions(response.results, terminal),
      });
    });
  },
});

function createdEntry(flags: Draft, node: boolean): Entry {
  if (flags.selector.length === 0) throw invalidArgument("at least one selector is required");
  if (flags.parentID === "" && !node) {
    throw invalidArgument("a parent ID is required if the node flag is not set");
  }
  if (flags.spiffeID === "") throw invalidArgument("a SPIFFE ID is required");
  const parentId = node ? nodeParent(flags.spiffeID) : flags.parentID;
  return draftEntry(flags, parentId);
}

/** Entries for nodes belong to the server itself. */
const nodeParent = (spiffeId: string): string =>
  `spiffe://${trustDomainOf(parseSpiffeId(spiffeId))}/spire/server`;

function updatedEntry(flags: Draft): Entry {
  if (flags.entryID === "") throw invalidArgument("entry ID is required");
  if (flags.selector.length === 0) throw invalidArgument("at least one selector is required");
  if (flags.parentID === "") throw invalidArgument("a parent ID is required");
  if (flags.spiffeID === "") throw invalidArgument("a SPIFFE ID is required");
  return draftEntry(flags, flags.parentID);
}

function draftEntry(flags: Draft, parentId: string): Entry {
  if (flags.x509SVIDTTL < 0) throw invalidArgument("a positive x509-SVID TTL is required");
  if (flags.jwtSVIDTTL < 0) throw invalidArgument("a positive JWT-SVID TTL is required");
  requireInt32(flags.x509SVIDTTL, "X509 SVID TTL", `int(${flags.x509SVIDTTL})`);
  requireInt32(flags.jwtSVIDTTL, "JWT SVID TTL", `int(${flags.jwtSVIDTTL})`);
  const attributes = flags.disableX509SVIDPrefetch || flags.jwtSVIDIncludeJTI;
  return Entry.fromPartial({
    id: flags.entryID,
    parentId: spiffeIdMessage(parentId),
    spiffeId: spiffeIdMessage(flags.spiffeID),
    selectors: flags.selector.map(splitSelector),
    x509SvidTtl: flags.x509SVIDTTL,
    jwtSvidTtl: flags.jwtSVIDTTL,
    federatesWith: [...flags.federatesWith],
    admin: flags.admin,
    downstream: flags.downstream,
    storeSvid: flags.storeSVID,
    expiresAt: flags.entryExpiry,
    dnsNames: [...flags.dns],
    hint: flags.hint,
    ...(attributes && {
      additionalAttributes: {
        disableX509SvidPrefetch: flags.disableX509SVIDPrefetch,
        jwtSvidIncludeJti: flags.jwtSVIDIncludeJTI,
      },
    }),
  });
}

async function dataEntries(path: string, terminal: Terminal): Promise<Entry[]> {
  const { entries, warnings } = parseEntryJson(await readTextFile(path, terminal));
  for (const warning of warnings) terminal.err(`Warning: ${warning}\n`);
  return [...entries];
}

async function idsToDelete(id: string, file: string, terminal: Terminal): Promise<string[]> {
  if (file === "") {
    if (id === "") throw invalidArgument("an entry ID is required");
    return [id];
  }
  const document = parseJson(await readTextFile(file, terminal));
  if (Array.isArray(document)) throw invalidArgument('the document must be an object, {"ids": […]}');
  const ids: unknown =
    typeof document === "object" && document !== null && "ids" in document ? document.ids : [];
  if (Array.isArray(ids) && ids.every((item) => typeof item === "string")) return ids;
  throw invalidArgument('"ids" must be a list of strings');
}

type Filter = Parameters<typeof EntryService.listEntries.requestSerialize>[0]["filter"] & {};

function entryFilter(flags: Invocation<typeof filterFlags>["flags"]): Filter {
  return {
    bySpiffeId: optionalId(flags.spiffeID, "SPIFFE ID"),
    byParentId: optionalId(flags.parentID, "parent ID"),
    bySelectors:
      flags.selector.length === 0
        ? undefined
        : {
            selectors: parseSelectors(flags.selector),
            match: parseMatch(flags.matchSelectorsOn, selectorMatches),
          },
    byFederatesWith:
      flags.federatesWith.length === 0
        ? undefined
        : {
            trustDomains: [...flags.federatesWith],
            match: parseMatch(flags.matchFederatesWithOn, federationMatches),
          },
    byHint: flags.hint === "" ? undefined : flags.hint,
    byDownstream: flags.downstream || undefined,
  };
}

function optionalId(text: string, what: string) {
  if (text === "") return undefined;
  try {
    return spiffeIdMessage(text);
  } catch (error) {
    throw SpireError.from(error).within(`error parsing ${what} ${quote(text)}`);
  }
}

function parseSelectors(texts: readonly string[]) {
  try {
    return texts.map(splitSelector);
  } catch (error) {
    throw SpireError.from(error).within("error parsing selectors");
  }
}

async function listEntries(channel: Channel, filter: Filter): Promise<Entry[]> {
  const client = channel.client(EntryService);
  const entries: Entry[] = [];
  let pageToken = "";
  try {
    do {
      const page = await client.listEntries({ filter, outputMask: undefined, pageSize: 500, pageToken });
      entries.push(...page.entries);
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  } catch (error) {
    throw SpireError.from(error).within("error fetching entries");
  }
  return entries;
}

async function getEntry(channel: Channel, id: string): Promise<Entry> {
  try {
    return await channel.client(EntryService).getEntry({ id, outputMask: undefined });
  } catch (error) {
    throw SpireError.from(error).within(`error fetching entry ID ${id}`);
  }
}
