/** What a backup says of itself: one line of JSON at its beginning. */
import type { RegistryCounts } from "../../core/registry-counts.ts";

/** A part of the file. */
export interface BackupPart {
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
}

export interface BackupManifest {
  readonly trustDomain: string;
  readonly schemaVersion: number;
  /** RFC 3339, in UTC. */
  readonly createdAt: string;
  readonly programVersion: string;
  /** Of the newest change that is in it. */
  readonly sequence: number;
  readonly counts: RegistryCounts;
  readonly database: BackupPart;
  /** The key file; undefined = the backup holds no CA keys. */
  readonly keys?: BackupPart;
}

/** The line, without its end. */
export const formatManifest = ({ counts, keys, ...manifest }: BackupManifest): string =>
  JSON.stringify({
    trust_domain: manifest.trustDomain,
    schema_version: manifest.schemaVersion,
    created_at: manifest.createdAt,
    program_version: manifest.programVersion,
    sequence: manifest.sequence,
    holds_ca_keys: keys !== undefined,
    entries: counts.entries,
    agents: counts.agents,
    banned_agents: counts.bannedAgents,
    bundles: counts.bundles,
    federation_relationships: counts.federationRelationships,
    join_tokens: counts.joinTokens,
    database: manifest.database,
    ...(keys ? { keys } : {}),
  });

/** @returns undefined for a line that is not one of `formatManifest`. */
export function parseManifest(line: string): BackupManifest | undefined {
  const read = reader(line);
  const manifest = {
    trustDomain: read.text("trust_domain"),
    schemaVersion: read.count("schema_version"),
    createdAt: read.text("created_at"),
    programVersion: read.text("program_version"),
    sequence: read.count("sequence"),
    counts: {
      entries: read.count("entries"),
      agents: read.count("agents"),
      bannedAgents: read.count("banned_agents"),
      bundles: read.count("bundles"),
      federationRelationships: read.count("federation_relationships"),
      joinTokens: read.count("join_tokens"),
    },
    database: read.part("database"),
    ...(read.has("keys") ? { keys: read.part("keys") } : {}),
  };
  return read.isWhole() ? manifest : undefined;
}

/** Reads fields, and remembers whether each was there. */
function reader(line: string) {
  const fields = parseObject(line);
  let whole = fields !== undefined;
  const known = <T>(value: unknown, fits: (value: unknown) => value is T, otherwise: T): T => {
    if (fits(value)) return value;
    whole = false;
    return otherwise;
  };
  return {
    isWhole: () => whole,
    has: (name: string) => fields?.[name] !== undefined,
    text: (name: string) => known(fields?.[name], isText, ""),
    count: (name: string) => known(fields?.[name], isCount, 0),
    part: (name: string): BackupPart => {
      const part = known(fields?.[name], isObject, {});
      return { bytes: known(part["bytes"], isCount, 0), sha256: known(part["sha256"], isText, "") };
    },
  };
}

function parseObject(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
