/** `spire server bundle history` and `bundle restore`: the versions of the own bundle, and the way back to one. */
import { invalidArgument } from "../core/errors.ts";
import {
  type Authority,
  Authority_Kind,
  type AuthorityChange,
  AuthorityChange_Action,
  BundleHistoryService,
  type RestoredAuthority,
  type RestoreVersionResponse,
  type Version,
} from "../rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { intFlag } from "./flags.ts";
import { formatGoUtcTime } from "./go-text.ts";
import { counted, print, reply } from "./print.ts";

export const bundleHistory = command({
  name: "bundle history",
  summary: "Lists the versions of the server's own trust bundle that are kept, oldest first",
  example: "bundle history",
  flags: serverFlags,
  run: async (invocation) =>
    withServer(invocation, async (channel) => {
      const { flags, terminal } = invocation;
      const response = await channel.client(BundleHistoryService).listVersions({});
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleHistoryService.listVersions, response)],
        pretty: () => terminal.out(formatVersions(response.versions)),
      });
    }),
});

export const bundleRestore = command({
  name: "bundle restore",
  summary: "Brings back the authorities of an earlier version that the server's own trust bundle lacks",
  example: "bundle restore -sequence 12",
  flags: {
    ...serverFlags,
    sequence: intFlag("Sequence number of the version to restore from; `bundle history` lists them"),
  },
  run: async (invocation) => {
    const { flags, given, terminal } = invocation;
    if (!given.has("sequence")) {
      throw invalidArgument("a sequence number is required; `bundle history` lists those that there are");
    }
    if (flags.sequence < 0) throw invalidArgument("a sequence number can't be negative");
    return withServer(invocation, async (channel) => {
      const request = { sequenceNumber: flags.sequence };
      const response = await channel.client(BundleHistoryService).restoreVersion(request);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(BundleHistoryService.restoreVersion, response)],
        pretty: () => terminal.out(formatRestoration(response, flags.sequence)),
      });
    });
  },
});

const kindNames: Readonly<Record<Authority_Kind, string>> = {
  [Authority_Kind.X509]: "X.509",
  [Authority_Kind.JWT]: "JWT",
  [Authority_Kind.WIT]: "WIT",
  [Authority_Kind.KIND_UNSPECIFIED]: "Unknown",
  [Authority_Kind.UNRECOGNIZED]: "Unknown",
};

const actionNames: Readonly<Record<AuthorityChange_Action, string>> = {
  [AuthorityChange_Action.ADDED]: "Added",
  [AuthorityChange_Action.REMOVED]: "Removed",
  [AuthorityChange_Action.TAINTED]: "Tainted",
  [AuthorityChange_Action.UNTAINTED]: "No longer tainted",
  [AuthorityChange_Action.ACTION_UNSPECIFIED]: "Changed",
  [AuthorityChange_Action.UNRECOGNIZED]: "Changed",
};

const line = (label: string, value: string): string => `${label.padEnd(17)}: ${value}\n`;

const nameOf = (authority: Authority | undefined): string =>
  authority ? `${kindNames[authority.kind]} authority ${authority.authorityId}` : "unknown authority";

/** With what else is to be known of it, in parentheses. */
function describe(authority: Authority | undefined): string {
  const facts = authority?.tainted ? ["tainted"] : [];
  if (authority && authority.expiresAt !== 0) facts.push(`expires ${formatGoUtcTime(authority.expiresAt)}`);
  return `${nameOf(authority)}${facts.length > 0 ? ` (${facts.join(", ")})` : ""}`;
}

function formatVersions(versions: readonly Version[]): string {
  const found = `Found ${counted(versions.length, "version", "versions")} of the bundle\n`;
  return [found, ...versions.map(formatVersion)].join("\n");
}

function formatVersion(version: Version): string {
  const { sequenceNumber, recordedAt, reason, current, authorities, changes, changesKnown } = version;
  const rows = changesKnown
    ? changes.map(formatChange)
    : authorities.map((authority) => line("Holds", describe(authority)));
  return [
    line("Sequence number", `${sequenceNumber}${current ? " (current)" : ""}`),
    line("Time", recordedAt === 0 ? "unknown" : formatGoUtcTime(recordedAt)),
    reason === "" ? "" : line("Reason", reason),
    ...rows,
  ].join("");
}

/** A removed authority's end is of no interest, and that a tainted one is tainted is said already. */
const formatChange = ({ action, authority }: AuthorityChange): string =>
  line(
    actionNames[action],
    action === AuthorityChange_Action.ADDED ? describe(authority) : nameOf(authority),
  );

function formatRestoration(
  { sequenceNumber, restored, stillTainted }: RestoreVersionResponse,
  from: number,
): string {
  const head =
    restored.length === 0
      ? `Nothing to restore: the bundle has all authorities of sequence number ${from}, and stays at sequence number ${sequenceNumber}.\n`
      : `Restored ${counted(restored.length, "authority", "authorities")} of sequence number ${from}; the bundle now has sequence number ${sequenceNumber}.\n`;
  const taints = stillTainted.map(
    (authority) => `Still tainted: ${nameOf(authority)}; a restoration lifts no taint.\n`,
  );
  return [head, ...restored.map(formatRestored), ...taints].join("");
}

function formatRestored({ authority, expired, wasTainted, held }: RestoredAuthority): string {
  const notes = [
    expired ? "expired: it verifies nothing, and will be pruned again" : "",
    wasTainted ? "tainted when it was taken out, trusted again now" : "",
    held ? "its key is here: it can be tainted and revoked again" : "",
  ].filter((note) => note !== "");
  return `  ${describe(authority)}\n${notes.map((note) => `    ${note}\n`).join("")}`;
}
