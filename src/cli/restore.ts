/** `spire server restore`: a backup in the place of a stopped server's data. */
import type { SpiffeId } from "../core/spiffe-id.ts";
import { describeCounts, requiredFile } from "./backup.ts";
import { type Command, command, type Terminal } from "./command.ts";
import { boolFlag, outputFlag, stringFlag } from "./flags.ts";
import { readBans } from "./kept-bans.ts";
import { counted, formatJson } from "./print.ts";
import { dataFlags, readServerData, type ServerData } from "./server-data.ts";

interface RestoreRequest extends ServerData {
  readonly file: string;
  readonly withKeys: boolean;
  readonly bans: readonly SpiffeId[];
  readonly dryRun: boolean;
}

interface EntryName {
  readonly id: string;
  readonly spiffeId: string;
}

/** What the restore changes, as far as the present database tells. */
interface Undone {
  readonly bans: readonly string[];
  readonly bansBack: readonly string[];
  readonly evictions: readonly string[];
  readonly deletedEntries: readonly EntryName[];
  readonly deletedRelationships: readonly string[];
  readonly newAgents: readonly string[];
  readonly newEntries: readonly EntryName[];
  readonly changedEntries: readonly string[];
}

interface RestoreOutcome {
  readonly manifest: {
    readonly createdAt: string;
    readonly programVersion: string;
    readonly counts: Parameters<typeof describeCounts>[0];
  };
  readonly undone?: Undone;
  readonly presentProblem?: string;
  readonly voidedTokens: number;
  readonly unknownBans: readonly string[];
  readonly authorities: "kept" | "restored" | "new";
  readonly keysRestored: boolean;
  readonly aside: readonly string[];
}

/** @throws SpireError; then nothing was changed. */
export type RestoreBackup = (request: RestoreRequest) => Promise<RestoreOutcome>;

const flags = {
  ...dataFlags,
  withKeys: boolFlag("Put the backup's CA keys, bundle and CA journal in the place of the present ones"),
  keepBans: stringFlag(
    "File of agents to be banned afterwards: IDs line by line, or what agent list or -dryRun print as JSON",
  ),
  dryRun: boolFlag("Prints what would be restored and undone, and changes nothing"),
  output: outputFlag,
};

export const restoreCommand = (restoreBackup: RestoreBackup): Command =>
  command({
    name: "restore",
    summary: "Puts a backup in the place of the server's registry; the server must not run",
    example: "restore /var/backups/spire/registry.backup -config conf/server/server.conf",
    flags,
    flagsAnywhere: true,
    run: async (invocation) => {
      const file = requiredFile(invocation.rest, "to restore");
      const { flags: values, terminal } = invocation;
      const data = await readServerData(invocation);
      const bans = values.keepBans === "" ? [] : readBans(values.keepBans, data.trustDomain);
      const { withKeys, dryRun } = values;
      const outcome = await restoreBackup({ ...data, file, withKeys, bans, dryRun });
      if (values.output === "json") terminal.out(`${formatJson(toJson(outcome, dryRun, bans.length))}\n`);
      else printOutcome(outcome, { dryRun, bans: bans.length, file }, terminal);
      return 0;
    },
  });

interface Asked {
  readonly file: string;
  readonly dryRun: boolean;
  readonly bans: number;
}

function printOutcome(outcome: RestoreOutcome, { file, dryRun, bans }: Asked, { out }: Terminal): void {
  const { manifest, undone, presentProblem, voidedTokens, unknownBans, aside } = outcome;
  out(
    `${dryRun ? "Would restore" : "Restored"} ${file} of ${manifest.createdAt}: ${describeCounts(manifest.counts)}\n`,
  );
  for (const path of aside) out(`What was there before is now ${path}\n`);
  out(
    `${authorityTexts[outcome.authorities]}${outcome.keysRestored ? " The key file is the backup's." : ""}\n`,
  );
  out(`Join tokens voided: ${voidedTokens}\n`);
  if (bans > 0) {
    const unknown = unknownBans.length > 0 ? ` (${unknownBans.length} of them not in the backup)` : "";
    out(`Bans kept: ${bans}${unknown}\n`);
  }
  if (presentProblem !== undefined) {
    out(`The present database can't be relied on: ${presentProblem}\n`);
    out("Agents whose SVIDs were renewed since the backup have to attest again.\n");
  }
  if (!undone) {
    out("There is no present database to compare with: bans and deletions since the backup are not known.\n");
    return;
  }
  printUndone(undone, out);
}

const authorityTexts: Readonly<Record<RestoreOutcome["authorities"], string>> = {
  kept: "Authorities: as they are now.",
  restored: "Authorities: those of the backup.",
  new: "Authorities: new ones at the next start, as no key fits; agents have to be bootstrapped and to attest anew.",
};

function printUndone(undone: Undone, out: Terminal["out"]): void {
  const names = (entries: readonly EntryName[]) => entries.map(({ id, spiffeId }) => `${id} (${spiffeId})`);
  const lists: readonly (readonly [string, readonly string[]])[] = [
    ["Bans undone (keep them by -keepBans)", undone.bans],
    ["Bans that come back", undone.bansBack],
    ["Evicted agents that come back", undone.evictions],
    ["Deleted entries that come back", names(undone.deletedEntries)],
    ["Deleted federation relationships that come back", undone.deletedRelationships],
    ["Agents that have to attest again", undone.newAgents],
    ["Entries that go", names(undone.newEntries)],
    ["Entries that are as they were", undone.changedEntries],
  ];
  out("\nSince the backup, and now undone:\n");
  if (lists.every(([, items]) => items.length === 0)) out("  nothing\n");
  for (const [title, items] of lists.filter(([, found]) => found.length > 0)) {
    out(`  ${title}: ${counted(items.length, "item", "items")}\n`);
    for (const item of items) out(`    ${item}\n`);
  }
}

function toJson(outcome: RestoreOutcome, dryRun: boolean, bans: number) {
  const { manifest, undone } = outcome;
  const names = (entries: readonly EntryName[]) =>
    entries.map(({ id, spiffeId }) => ({ id, spiffe_id: spiffeId }));
  return {
    dry_run: dryRun,
    created_at: manifest.createdAt,
    entries: manifest.counts.entries,
    agents: manifest.counts.agents,
    authorities: outcome.authorities,
    keys_restored: outcome.keysRestored,
    voided_join_tokens: outcome.voidedTokens,
    kept_bans: bans,
    unknown_bans: outcome.unknownBans,
    aside: outcome.aside,
    present_problem: outcome.presentProblem ?? null,
    undone: undone
      ? {
          bans: undone.bans,
          bans_back: undone.bansBack,
          evictions: undone.evictions,
          deleted_entries: names(undone.deletedEntries),
          deleted_federation_relationships: undone.deletedRelationships,
          new_agents: undone.newAgents,
          new_entries: names(undone.newEntries),
          changed_entries: undone.changedEntries,
        }
      : null,
  };
}
