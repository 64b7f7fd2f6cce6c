/** `spire server backup`: a copy of the server's registry, and of its keys if asked, in one file. */
import { existsSync, statSync } from "node:fs";
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { RegistryCounts } from "../core/registry-counts.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { type Command, command } from "./command.ts";
import { boolFlag, outputFlag } from "./flags.ts";
import { counted, formatJson } from "./print.ts";
import { dataFlags, readServerData, type ServerData } from "./server-data.ts";

/** What a backup says of itself, as far as it is told. */
interface Manifest {
  readonly trustDomain: string;
  readonly schemaVersion: number;
  readonly createdAt: string;
  readonly sequence: number;
  readonly counts: RegistryCounts;
  readonly keys?: object;
}

interface BackupRequest extends Pick<ServerData, "trustDomain" | "databasePath" | "keysPath"> {
  readonly target: string;
  readonly replace: boolean;
}

/** Makes the file, and proves it. @throws SpireError; then there is no file. */
export type MakeBackup = (request: BackupRequest) => Promise<Manifest>;

const flags = {
  ...dataFlags,
  withKeys: boolFlag(
    "Include the CA keys of the disk key manager: whoever has the file can then sign as this server",
  ),
  force: boolFlag("Replace the file if it exists"),
  fromStdin: boolFlag("Read where the data are from standard input, as the server's schedule writes it"),
  output: outputFlag,
};

export const backupCommand = (makeBackup: MakeBackup): Command =>
  command({
    name: "backup",
    summary:
      "Writes the server's registry to a file while the server runs or not, and proves it by a restore",
    example: "backup /var/backups/spire/registry.backup -config conf/server/server.conf",
    flags,
    flagsAnywhere: true,
    run: async (invocation) => {
      const target = requiredFile(invocation.rest, "to write");
      const { flags: values, terminal } = invocation;
      const data = values.fromStdin
        ? parseData(await terminal.readInput())
        : chooseKeys(await readServerData(invocation), values.withKeys);
      const manifest = await makeBackup({ ...data, target, replace: values.force });
      const { size } = statSync(target);
      if (values.output === "json") terminal.out(`${formatJson(toJson(target, size, manifest))}\n`);
      else terminal.out(describe(target, size, manifest));
      return 0;
    },
  });

/** The one argument of a command that has one. @throws SpireError INVALID_ARGUMENT. */
export function requiredFile(rest: readonly string[], what: string): string {
  const [file, ...more] = rest;
  if (file !== undefined && file !== "" && more.length === 0) return file;
  throw invalidArgument(`give the one file ${what}${more.length > 0 ? `, not ${rest.join(" ")}` : ""}`);
}

type Data = Omit<BackupRequest, "target" | "replace">;

const chooseKeys = ({ trustDomain, databasePath, keysPath }: ServerData, withKeys: boolean): Data => ({
  trustDomain,
  databasePath,
  ...(withKeys ? { keysPath: requireKeys(keysPath) } : {}),
});

function parseData(text: string): Data {
  const { trustDomain, databasePath, keysPath }: Record<string, unknown> = JSON.parse(text);
  if (typeof trustDomain !== "string" || typeof databasePath !== "string") {
    throw invalidArgument("-fromStdin: standard input is not what the server's schedule writes");
  }
  return {
    trustDomain: parseTrustDomain(trustDomain),
    databasePath,
    ...(typeof keysPath === "string" ? { keysPath: requireKeys(keysPath) } : {}),
  };
}

function requireKeys(path: string | undefined): string {
  if (path === undefined) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      "-withKeys: only keys of the key manager disk can be included",
    );
  }
  if (existsSync(path)) return path;
  throw new SpireError("NOT_FOUND", `-withKeys: there is no key file ${path}`);
}

/** What a backup has, in words. */
export function describeCounts(counts: RegistryCounts): string {
  const { entries, agents, bannedAgents, bundles, federationRelationships } = counts;
  const parts = [
    counted(entries, "entry", "entries"),
    `${counted(agents, "agent", "agents")}${bannedAgents > 0 ? ` (${bannedAgents} banned)` : ""}`,
    counted(bundles, "bundle", "bundles"),
    counted(federationRelationships, "federation relationship", "federation relationships"),
  ];
  return parts.join(", ");
}

function describe(target: string, size: number, { trustDomain, counts, sequence, keys }: Manifest): string {
  const lines: [string, string][] = [
    ["Trust domain", trustDomain],
    ["Content", `${describeCounts(counts)}; up to change ${sequence}`],
    ["CA keys", keys ? "included: keep the file as secret as the server's keys" : "not included"],
    ["Size", `${size} bytes`],
    ["Proven", "restored into a scratch server, which started and signed"],
  ];
  return `Backup written to ${target}\n\n${lines.map(([label, value]) => `${label.padEnd(17)}: ${value}\n`).join("")}`;
}

const toJson = (file: string, bytes: number, manifest: Manifest) => ({
  file,
  bytes,
  trust_domain: manifest.trustDomain,
  created_at: manifest.createdAt,
  schema_version: manifest.schemaVersion,
  sequence: manifest.sequence,
  holds_ca_keys: manifest.keys !== undefined,
  entries: manifest.counts.entries,
  agents: manifest.counts.agents,
  banned_agents: manifest.counts.bannedAgents,
  bundles: manifest.counts.bundles,
  federation_relationships: manifest.counts.federationRelationships,
  join_tokens: manifest.counts.joinTokens,
});
