/** `spire server import`: the data of a stock SPIRE server, taken over before the first start. */
import { invalidArgument } from "../core/errors.ts";
import type { RegistryCounts } from "../core/registry-counts.ts";
import { type Command, command, type Terminal } from "./command.ts";
import { boolFlag, outputFlag, stringFlag } from "./flags.ts";
import { counted, formatJson } from "./print.ts";
import { dataFlags, readServerData, type ServerData } from "./server-data.ts";

interface ImportRequest extends ServerData {
  readonly from: string;
  readonly fromKeys?: string;
  readonly replace: boolean;
  readonly dryRun: boolean;
}

interface Remark {
  readonly kind: string;
  readonly id: string;
  readonly reason: string;
}

interface ImportOutcome extends RegistryCounts {
  readonly schemaVersion: number;
  readonly codeVersion: string;
  readonly authorities: number;
  readonly hadLog: boolean;
  readonly skipped: readonly Remark[];
  readonly changed: readonly Remark[];
  readonly aside: readonly string[];
}

/** @throws SpireError; then nothing was changed. */
export type TakeOver = (request: ImportRequest) => Promise<ImportOutcome>;

const flags = {
  ...dataFlags,
  fromSpire: stringFlag("The stock server's SQLite database; that server must not run"),
  keys: stringFlag("The key file (keys.json) of the stock server's disk key manager"),
  force: boolFlag("Put data and keys that are there already aside"),
  dryRun: boolFlag("Prints what would be taken over, and changes nothing"),
  output: outputFlag,
};

export const importCommand = (takeOver: TakeOver): Command =>
  command({
    name: "import",
    summary: "Takes over the data of a stock SPIRE server: all of it in one step, or nothing",
    example:
      "import -fromSpire /opt/spire/data/datastore.sqlite3 -keys /opt/spire/data/keys.json -config server.conf",
    flags,
    run: async (invocation) => {
      const { flags: values, terminal } = invocation;
      if (values.fromSpire === "") throw invalidArgument("name the stock server's database by -fromSpire");
      const outcome = await takeOver({
        ...(await readServerData(invocation)),
        from: values.fromSpire,
        ...(values.keys === "" ? {} : { fromKeys: values.keys }),
        replace: values.force,
        dryRun: values.dryRun,
      });
      if (values.output === "json") terminal.out(`${formatJson(toJson(outcome, values.dryRun))}\n`);
      else printOutcome(outcome, values.dryRun, terminal);
      return 0;
    },
  });

function printOutcome(outcome: ImportOutcome, dryRun: boolean, { out }: Terminal): void {
  const { skipped, changed, bannedAgents } = outcome;
  const from = `SPIRE ${outcome.codeVersion}, schema version ${outcome.schemaVersion}`;
  out(`${dryRun ? "Would take over" : "Took over"} from ${from}:\n\n`);
  const counts: [string, string][] = [
    ["Entries", String(outcome.entries)],
    ["Agents", `${outcome.agents}${bannedAgents > 0 ? ` (${bannedAgents} banned)` : ""}`],
    ["Bundles", String(outcome.bundles)],
    ["Relationships", String(outcome.federationRelationships)],
    ["Join tokens", String(outcome.joinTokens)],
    ["Authorities", outcome.authorities > 0 ? `${outcome.authorities}, with their keys` : "none"],
  ];
  for (const [label, value] of counts) out(`${label.padEnd(17)}: ${value}\n`);
  if (outcome.hadLog)
    out("\nThe database had a log, as after a crash; what is in it was taken over as well.\n");
  for (const path of outcome.aside) out(`What was there before is now ${path}\n`);
  printRemarks("Not taken over", skipped, out);
  printRemarks("Changed", changed, out);
}

function printRemarks(title: string, remarks: readonly Remark[], out: Terminal["out"]): void {
  if (remarks.length === 0) return;
  out(`\n${title}: ${counted(remarks.length, "item", "items")}\n`);
  for (const { kind, id, reason } of remarks) out(`  ${kind}${id === "" ? "s" : ` ${id}`}: ${reason}\n`);
}

const toJson = (outcome: ImportOutcome, dryRun: boolean) => ({
  dry_run: dryRun,
  schema_version: outcome.schemaVersion,
  code_version: outcome.codeVersion,
  entries: outcome.entries,
  agents: outcome.agents,
  banned_agents: outcome.bannedAgents,
  bundles: outcome.bundles,
  federation_relationships: outcome.federationRelationships,
  join_tokens: outcome.joinTokens,
  authorities: outcome.authorities,
  had_log: outcome.hadLog,
  skipped: outcome.skipped,
  changed: outcome.changed,
  aside: outcome.aside,
});
