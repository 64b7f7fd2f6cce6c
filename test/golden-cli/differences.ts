/** Recorded cases in which the commands differ from SPIRE's on purpose, each with its benefit to users. */

export interface Difference {
  /** The benefit. */
  readonly why: string;
  /** The exit code in place of the recorded one. */
  readonly exitCode?: number;
  /** What is printed in place of what was recorded; when not given, only that it differs is checked. */
  readonly stdout?: (recorded: string) => string;
}

const acceptedTimes: Difference = {
  why: "a time as `agent list` prints it is understood; SPIRE refuses its own form and wants one that nothing prints",
  exitCode: 0,
};
const ownCommands: Difference = { why: "lists the commands that there are" };
const ownVersion: Difference = { why: "prints this program's own version" };
const groupHelp: Difference = {
  why: "a group's usage names its subcommands once, without the usage of each of them before it",
};
const trueCap: Difference = { why: "no warning about a lifetime that is the one asked for" };

/** Entries that this server refuses: they would do harm, or could never work. */
const refused: Readonly<Record<string, { readonly path: string; readonly why: string }>> = {
  "dns-invalid": { path: "/dns2", why: "a DNS name with a space is refused: no verifier accepts it" },
  "expiry-past": { path: "/exp2", why: "an expiry in the past is refused: the entry would vanish at once" },
  "expiry-negative": { path: "/exp3", why: "an expiry below zero is refused: it can only be a mistake" },
  "federates-with-self": {
    path: "/fed",
    why: "federation with the own trust domain is refused: it breaks every later sync of the agents",
  },
};
const refusedPaths = Object.values(refused).map(({ path }) => path);
const withoutRefused = "the entries that are refused (see entry-create) are not there";

/** Blocks of entries between empty lines, the first after its heading. */
const dropRefusedBlocks = (text: string): string =>
  text
    .replace("Found 32 entries", `Found ${32 - refusedPaths.length} entries`)
    .split(/(?<=\n\n)/)
    .filter(
      (block) =>
        !refusedPaths.some((path) =>
          block.includes(`SPIFFE ID               : spiffe://example.org${path}\n`),
        ),
    )
    .join("");

interface EntryList {
  readonly entries: readonly { readonly spiffe_id: { readonly path: string } }[];
}

function dropRefusedItems(text: string): string {
  const list = JSON.parse(text) as EntryList;
  const entries = list.entries.filter(({ spiffe_id }) => !refusedPaths.includes(spiffe_id.path));
  return `${JSON.stringify({ ...list, entries })}\n`;
}

const fewer = (text: string): string => text.replace("32", String(32 - refusedPaths.length));

const oneRevisionLess: Difference = {
  why: "the update that would have made two entries the same was refused",
  stdout: (text) =>
    text.replace(/(Revision {16}: )(\d)/, (_, label, revision) => `${label}${Number(revision) - 1}`),
};

const otherState: Difference = {
  why: `${withoutRefused}; and the own bundle is not counted as a federated one`,
  stdout: (text) =>
    fewer(text)
      .replace(/(Federated Bundles: +)6/, "$15")
      .replace('"federated_bundles_count":6', '"federated_bundles_count":5'),
};

export const differences: Readonly<Record<string, Difference>> = {
  "spire-server/root/help": ownCommands,
  "spire-server/root/no-args": ownCommands,
  "spire-server/root/unknown-command": ownCommands,
  "spire-agent/root/help": ownCommands,
  "spire-agent/root/no-args": ownCommands,
  "spire-agent/root/unknown-command": ownCommands,
  "spire-server/root/version": ownVersion,
  "spire-agent/root/version": ownVersion,
  "spire-server/root/entry-no-subcommand": groupHelp,
  "spire-server/root/entry-unknown-subcommand": groupHelp,
  "spire-agent/root/api-fetch-no-subcommand": groupHelp,
  "spire-server/agent-list/expires-before-past": acceptedTimes,
  "spire-server/agent-list/expires-before-future": acceptedTimes,
  "spire-server/agent-count/expires-before-past": acceptedTimes,
  "spire-server/agent-count/expires-before-future": acceptedTimes,
  "spire-server/agent-list/bad-banned": {
    why: "a value that is neither true nor false is refused; SPIRE ignores the filter and lists everything",
    exitCode: 1,
  },
  "spire-server/jwt-mint/ttl": trueCap,
  "spire-server/x509-mint/ttl": trueCap,
  "spire-server/x509-mint/bad-dns": {
    why: "a DNS name with a space is refused: no verifier accepts it",
    exitCode: 1,
  },
  "spire-server/entry-create/bad-data-unknown-field": {
    why: "an unknown field is ignored, but with a warning",
  },
  ...Object.fromEntries(
    Object.entries(refused).map(([name, { why }]) => [
      `spire-server/entry-create/${name}`,
      { why, exitCode: 1, stdout: () => "" },
    ]),
  ),
  "spire-server/entry-show/all": { why: withoutRefused, stdout: dropRefusedBlocks },
  "spire-server/entry-show/all.json-output": { why: withoutRefused, stdout: dropRefusedItems },
  "spire-server/entry-count/all": { why: withoutRefused, stdout: fewer },
  "spire-server/entry-count/all.json-output": { why: withoutRefused, stdout: fewer },
  "spire-server/debug/getinfo": otherState,
  "spire-server/debug/getinfo.json-output": otherState,
  "spire-server/entry-update/conflict-with-other-entry": {
    why: "an update that would make two entries the same is refused, as their creation is",
    exitCode: 1,
    stdout: () => "",
  },
  "spire-server/entry-update/reset-after-conflict": oneRevisionLess,
  "spire-server/entry-update/revision-after-updates": oneRevisionLess,
  "spire-server/federation-create/bad-bad-bundle-format": {
    why: "an unknown bundle format is refused; SPIRE takes any other word than spiffe for pem, or ignores it",
    stdout: () => "",
  },
  "spire-server/bundle-list/all-spiffe": {
    why: "a bundle without keys is an empty list, not null, which no parser of key sets accepts",
    stdout: (text) => text.replace('"keys": null', '"keys": []'),
  },
  "spire-server/entry-show/after-dissociate": {
    why: "an entry that lost a bundle counts as changed, so that agents which ask by revision learn of it",
    stdout: (text) => text.replace(/(Revision {16}: )0/, "$11"),
  },
};
