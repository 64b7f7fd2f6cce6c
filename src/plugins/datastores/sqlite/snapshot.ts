/** Consistent copies of a database that may be in use, and what is in one. */
import { Database } from "bun:sqlite";
import { chmodSync, copyFileSync, existsSync, statSync } from "node:fs";
import { SpireError } from "../../../core/errors.ts";
import type { RegistryCounts } from "../../../core/registry-counts.ts";
import { closeDatabase, databaseError } from "./connection.ts";
import { requireSound } from "./damage.ts";
import { newestSchema } from "./migrations.ts";

export interface DatabaseFacts extends RegistryCounts {
  readonly schemaVersion: number;
  /** Of the newest change. */
  readonly sequence: number;
}

/**
 * Writes what is committed now to `target`, which must not be there yet (0600). Reads as any reader does: writers go
 * on meanwhile. Memory does not grow with the database.
 * @throws SpireError NOT_FOUND when there is no database; DATA_LOSS when it is damaged.
 */
export function copyDatabase(source: string, target: string): void {
  if (!existsSync(source)) {
    throw new SpireError(
      "NOT_FOUND",
      `there is no datastore at ${source}; name the server's by -config or -dataDir`,
    );
  }
  reading(source, (database) => {
    database.run("PRAGMA busy_timeout = 5000");
    database.query("VACUUM INTO ?").run(target);
  });
  chmodSync(target, 0o600);
}

/**
 * Copies the files of a database that nobody has open, its log included, so that it can be read without a trace
 * at the original.
 */
export function copyFiles(source: string, target: string): void {
  for (const part of ["", "-wal"]) {
    if (!existsSync(source + part)) continue;
    copyFileSync(source + part, target + part);
    chmodSync(target + part, 0o600);
  }
}

/**
 * Looks at a copy, and checks it whole.
 * @throws SpireError DATA_LOSS when it is damaged; FAILED_PRECONDITION when another or a newer program wrote it.
 */
export function inspectDatabase(path: string): DatabaseFacts {
  return reading(path, (database) => {
    requireSound({ query: (sql) => database.query(sql) }, path);
    const number = (sql: string): number => database.query<{ n: number | null }, []>(sql).get()?.n ?? 0;
    const count = (from: string): number => number(`SELECT count(*) AS n FROM ${from}`);
    if (count("sqlite_schema WHERE type = 'table' AND name = 'schema_versions'") === 0) {
      throw new SpireError("FAILED_PRECONDITION", `datastore ${path} is a database of another program`);
    }
    const schemaVersion = number("SELECT max(version) AS n FROM schema_versions");
    if (schemaVersion > newestSchema) {
      throw new SpireError(
        "FAILED_PRECONDITION",
        `it has schema version ${schemaVersion}, written by a newer program; this one knows version ${newestSchema}`,
      );
    }
    const hasRelationships = count("sqlite_schema WHERE name = 'federation_relationships'") > 0;
    return {
      schemaVersion,
      sequence: number("SELECT seq AS n FROM sqlite_sequence WHERE name = 'changes'"),
      entries: count("entries"),
      agents: count("nodes"),
      bannedAgents: count("nodes WHERE serial_number = ''"),
      bundles: count("bundles"),
      federationRelationships: hasRelationships ? count("federation_relationships") : 0,
      joinTokens: count("join_tokens"),
    };
  });
}

/** Whether a database is there that holds anything but an empty schema. */
export const isEmptyDatabase = (facts: DatabaseFacts): boolean =>
  facts.entries + facts.agents + facts.bundles + facts.federationRelationships + facts.joinTokens === 0;

function reading<T>(path: string, work: (database: Database) => T): T {
  try {
    if (statSync(path).size === 0) throw new SpireError("DATA_LOSS", `datastore ${path} is empty`);
    const database = new Database(path, { readonly: true, strict: true });
    try {
      return work(database);
    } finally {
      closeDatabase(database);
    }
  } catch (error) {
    throw databaseError(error, path);
  }
}
