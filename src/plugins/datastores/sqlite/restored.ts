/** Makes a database out of a backup fit to take the place of the present one, and says what that undoes. */
import { Database } from "bun:sqlite";
import { pathOf, type SpiffeId, type TrustDomain } from "../../../core/spiffe-id.ts";
import { closeDatabase, databaseError } from "./connection.ts";

/** What a restore changes, as far as the present database tells. */
export interface Undone {
  /** Agents that are banned now, and are not after the restore. */
  readonly bans: readonly string[];
  /** Agents that are not banned now, and are after it. */
  readonly bansBack: readonly string[];
  /** Agents that were evicted (or pruned) since the backup, and come back. */
  readonly evictions: readonly string[];
  /** Entries that were deleted since, and come back. */
  readonly deletedEntries: readonly { readonly id: string; readonly spiffeId: string }[];
  /** Federation relationships that were deleted since, and come back. */
  readonly deletedRelationships: readonly string[];
  /** Agents that attested since: they have to attest again. */
  readonly newAgents: readonly string[];
  /** Entries that were created since: they are gone. */
  readonly newEntries: readonly { readonly id: string; readonly spiffeId: string }[];
  /** Entries that were changed since, and are as they were. */
  readonly changedEntries: readonly string[];
}

export interface RestoreOptions {
  readonly trustDomain: TrustDomain;
  /** A copy of the present database, of the same schema; undefined when there is none that can be read. */
  readonly present?: { readonly path: string; readonly isTrusted: boolean };
  /** Agents to be banned afterwards. */
  readonly bans: readonly SpiffeId[];
  /** The own bundle and the CA journal of a trusted present database stay; else they are the backup's. */
  readonly keepAuthorities: boolean;
}

export interface Restored {
  /** Undefined when nothing could be compared. */
  readonly undone?: Undone;
  readonly voidedTokens: number;
  /** Of `bans`: agents that the backup does not know; they are banned nevertheless. */
  readonly unknownBans: readonly string[];
}

/** Tables that go with the authorities' keys, besides the trust domain's own bundle. */
const authorityTables = ["journals", "bundle_versions", "svid_horizons", "rotations", "rotation_moved"];

/**
 * Changes the database at `path`, whose schema is up to date: no join token is left; with a trusted present database,
 * agents keep the SVIDs that they have now, entries get revisions that no agent has seen, and the numbers of bundle and
 * changes go on. One transaction.
 * @throws SpireError DATA_LOSS.
 */
export function prepareRestored(path: string, options: RestoreOptions): Restored {
  try {
    const database = new Database(path, { readwrite: true, strict: true });
    try {
      if (options.present) database.query("ATTACH ? AS present").run(options.present.path);
      const restored = database.transaction(() => change(database, options)).immediate();
      if (options.present) database.run("DETACH present");
      return restored;
    } finally {
      closeDatabase(database);
    }
  } catch (error) {
    throw databaseError(error, path);
  }
}

function change(database: Database, options: RestoreOptions): Restored {
  const unknownBans = options.bans.filter((id) => !ban(database, id));
  const undone = options.present ? compare(database) : undefined;
  if (options.present?.isTrusted) goOn(database, options);
  // What the backup's authorities have signed since is in none of its tables: rotations then wait for the worst.
  if (!options.keepAuthorities) database.run("DELETE FROM svid_horizons");
  const voidedTokens = database.query("DELETE FROM join_tokens").run().changes;
  return { ...(undone ? { undone } : {}), voidedTokens, unknownBans };
}

/** Whether the agent is known. A ban of one that is not keeps it from attesting, too. */
function ban(database: Database, id: SpiffeId): boolean {
  const known = database
    .query("UPDATE nodes SET serial_number = '', new_serial_number = '', new_expires_at = 0 WHERE id = ?")
    .run(id).changes;
  if (known > 0) return true;
  database
    .query(
      `INSERT INTO nodes (id, attestation_type, serial_number, expires_at, new_serial_number, new_expires_at,
         can_reattest, agent_version, selectors) VALUES (?, ?, '', 0, '', 0, 0, '', '[]')`,
    )
    .run(id, attestationTypeOf(id));
  return false;
}

/** It is the part of an agent's path after `/spire/agent/`. */
const attestationTypeOf = (id: SpiffeId): string => pathOf(id).split("/")[3] ?? "";

function compare(database: Database): Undone {
  const ids = (sql: string): string[] =>
    database
      .query<{ id: string }, []>(`${sql} ORDER BY 1`)
      .all()
      .map(({ id }) => id);
  const entries = (sql: string) =>
    database
      .query<{ id: string; spiffeId: string }, []>(`SELECT id, spiffe_id AS spiffeId ${sql} ORDER BY 1`)
      .all();
  const missingIn = (schema: string, table: string, column = "id") =>
    `${column} NOT IN (SELECT ${column} FROM ${schema}.${table})`;
  return {
    bans: ids(`SELECT id FROM present.nodes WHERE serial_number = ''
      AND id NOT IN (SELECT id FROM main.nodes WHERE serial_number = '')`),
    bansBack: ids(`SELECT id FROM main.nodes WHERE serial_number = ''
      AND id IN (SELECT id FROM present.nodes WHERE serial_number <> '')`),
    evictions: ids(
      `SELECT id FROM main.nodes WHERE serial_number <> '' AND ${missingIn("present", "nodes")}`,
    ),
    deletedEntries: entries(`FROM main.entries WHERE ${missingIn("present", "entries")}`),
    deletedRelationships: ids(`SELECT trust_domain AS id FROM main.federation_relationships
      WHERE ${missingIn("present", "federation_relationships", "trust_domain")}`),
    newAgents: ids(
      `SELECT id FROM present.nodes WHERE serial_number <> '' AND ${missingIn("main", "nodes")}`,
    ),
    newEntries: entries(`FROM present.entries WHERE ${missingIn("main", "entries")}`),
    changedEntries: ids(`SELECT id FROM main.entries AS old JOIN present.entries AS now USING (id)
      WHERE old.revision_number <> now.revision_number`),
  };
}

/** What must not go back, whatever the backup says. */
function goOn(database: Database, { trustDomain, keepAuthorities }: RestoreOptions): void {
  // An agent renews its SVID twice in its lifetime; with the serial number of before it could not go on.
  database.run(`UPDATE main.nodes SET serial_number = now.serial_number, expires_at = now.expires_at,
      new_serial_number = now.new_serial_number, new_expires_at = now.new_expires_at
    FROM present.nodes AS now
    WHERE now.id = nodes.id AND now.serial_number <> '' AND nodes.serial_number <> ''`);
  // Agents tell by the revision whether they have an entry as it is.
  database.run(`UPDATE main.entries SET revision_number = now.revision_number + 1
    FROM present.entries AS now
    WHERE now.id = entries.id AND now.revision_number > entries.revision_number`);
  if (keepAuthorities) {
    takeOverAuthorities(database, trustDomain);
  } else {
    const sequence = "json_extract(data, '$.sequence_number')";
    database
      .query(
        `UPDATE main.bundles SET data = json_set(data, '$.sequence_number', max(${sequence},
           1 + (SELECT ${sequence} FROM present.bundles WHERE trust_domain = ?1)))
         WHERE trust_domain = ?1 AND EXISTS (SELECT 1 FROM present.bundles WHERE trust_domain = ?1)`,
      )
      .run(trustDomain);
  }
  database.run(`UPDATE main.sqlite_sequence SET seq = 1 + max(seq,
      (SELECT max(seq) FROM present.sqlite_sequence WHERE name = 'changes'))
    WHERE name = 'changes' AND EXISTS (SELECT 1 FROM present.sqlite_sequence WHERE name = 'changes')`);
}

/** Both databases have the same schema. */
function takeOverAuthorities(database: Database, trustDomain: TrustDomain): void {
  for (const table of authorityTables) {
    database.run(`DELETE FROM main.${table}`);
    database.run(`INSERT INTO main.${table} SELECT * FROM present.${table}`);
  }
  database
    .query(
      `INSERT INTO main.bundles (trust_domain, data)
       SELECT trust_domain, data FROM present.bundles WHERE trust_domain = ?
       ON CONFLICT (trust_domain) DO UPDATE SET data = excluded.data`,
    )
    .run(trustDomain);
}
