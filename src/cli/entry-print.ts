/** How registration entries, and what became of them, are shown to people. */
import { sortSelectors } from "../core/selector.ts";
import type { Entry } from "../rpc/gen/spire/api/types/entry.ts";
import type { Status } from "../rpc/gen/spire/api/types/status.ts";
import type { Terminal } from "./command.ts";
import { formatIdMessage } from "./entry-data.ts";
import { formatGoTime, goCodeName, quote } from "./go-text.ts";

export interface EntryResult {
  status: Status | undefined;
  entry: Entry | undefined;
}

/** A failed item shows the entry that was asked for, even where the server answered with the one in its way. */
export function asAskedFor(results: readonly EntryResult[], asked: readonly Entry[]): EntryResult[] {
  return results.map(({ status, entry }, index) => ({
    status,
    entry: status?.code === 0 ? entry : asked[index],
  }));
}

/** @returns the exit code. */
export function printResults(
  results: readonly EntryResult[],
  verb: "create" | "update",
  terminal: Terminal,
): number {
  const failed = results.filter(({ status }) => status?.code !== 0);
  for (const { status, entry } of results) {
    if (status?.code === 0 && entry) terminal.out(formatEntry(entry));
  }
  for (const { status, entry } of failed) {
    terminal.err(`Failed to ${verb} the following entry (${describeStatus(status)}):\n`);
    if (entry) terminal.err(formatEntry(entry));
  }
  if (failed.length > 0) terminal.err(`Error: failed to ${verb} one or more entries\n`);
  return failed.length > 0 ? 1 : 0;
}

const describeStatus = (status: Status | undefined): string =>
  `code: ${goCodeName(status?.code ?? 2)}, msg: ${quote(status?.message ?? "")}`;

interface Deletion {
  status: Status | undefined;
  id: string;
}

/** @returns the exit code. */
export function printDeletions(results: readonly Deletion[], terminal: Terminal): number {
  const failed = results.filter(({ status }) => status?.code !== 0);
  const deleted = results.length - failed.length;
  for (const { status, id } of results) {
    if (status?.code === 0) terminal.out(`Deleted entry with ID: ${id}\n`);
  }
  if (deleted > 0) terminal.out("\n\n");
  for (const { status, id } of failed) {
    terminal.err(`Failed to delete entry with ID ${id} (${describeStatus(status)})\n`);
  }
  if (failed.length === 0) {
    terminal.out(`Deleted ${deleted} entries successfully`);
    return 0;
  }
  terminal.out(
    deleted > 0
      ? `\n\nDeleted ${deleted} entries successfully, but failed to delete ${failed.length} entries`
      : `\n\nFailed to delete ${failed.length} entries`,
  );
  terminal.err("Error: failed to delete one or more entries\n");
  return 1;
}

/** As SPIRE lists entries: each with its selectors sorted, all by SPIFFE ID, parent ID, TTLs and selectors. */
export const inListingOrder = (entries: readonly Entry[]): Entry[] =>
  entries.map((entry) => ({ ...entry, selectors: sortSelectors(entry.selectors) })).sort(compareEntries);

function compareEntries(a: Entry, b: Entry): number {
  const key = ({ selectors, ...entry }: Entry) => [
    formatIdMessage(entry.spiffeId),
    formatIdMessage(entry.parentId),
    entry.x509SvidTtl,
    entry.jwtSvidTtl,
    selectors.length,
    ...selectors.flatMap(({ type, value }) => [type, value]),
    entry.id,
  ];
  const [left, right] = [key(a), key(b)];
  for (const [index, part] of left.entries()) {
    const other = right[index] ?? "";
    if (part !== other) return part < other ? -1 : 1;
  }
  return 0;
}

/** The block that SPIRE prints for an entry, with the empty line that ends it. */
export function formatEntry(entry: Entry): string {
  const attributes = entry.additionalAttributes;
  const ttl = (seconds: number) => (seconds === 0 ? "default" : String(seconds));
  const lines: [string, string | undefined][] = [
    ["Entry ID", entry.id === "" ? "(none)" : entry.id],
    ["SPIFFE ID", formatIdMessage(entry.spiffeId)],
    ["Parent ID", formatIdMessage(entry.parentId)],
    ["Revision", String(entry.revisionNumber)],
    ["Downstream", entry.downstream ? "true" : undefined],
    ["X509-SVID TTL", ttl(entry.x509SvidTtl)],
    ["JWT-SVID TTL", ttl(entry.jwtSvidTtl)],
    ["Expiration time", entry.expiresAt === 0 ? undefined : formatGoTime(entry.expiresAt)],
    ...entry.selectors.map(({ type, value }): [string, string] => ["Selector", `${type}:${value}`]),
    ...entry.federatesWith.map((name): [string, string] => ["FederatesWith", name]),
    ...entry.dnsNames.map((name): [string, string] => ["DNS name", name]),
    ["Admin", entry.admin ? "true" : undefined],
    ["StoreSvid", entry.storeSvid ? "true" : undefined],
    ["Hint", entry.hint === "" ? undefined : entry.hint],
    ["DisableX509SvidPrefetch", attributes?.disableX509SvidPrefetch ? "true" : undefined],
    ["JwtSvidIncludeJti", attributes?.jwtSvidIncludeJti ? "true" : undefined],
  ];
  const shown = lines.filter(([, value]) => value !== undefined);
  return `${shown.map(([label, value]) => `${label.padEnd(24)}: ${value}\n`).join("")}\n`;
}
