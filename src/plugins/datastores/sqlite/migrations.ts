/** The database's schema as numbered steps; each runs once, those that are missing in one transaction. */
import type { Clock } from "../../../core/clock.ts";
import { unixSeconds } from "../../../core/clock.ts";
import { SpireError } from "../../../core/errors.ts";
import { type Connection, rollBack } from "./connection.ts";

/**
 * Step n leads from version n to n + 1. Steps are never edited once released, only added.
 *
 * - `selectors` is the canonical JSON of the set (core `selectorSetKey`), which makes "the same set" an equality;
 *   entry_selectors and node_selectors repeat it as rows for the filters.
 * - Row IDs are page tokens: AUTOINCREMENT keeps one from being given out twice.
 */
const steps: readonly string[] = [
  `
  CREATE TABLE bundles (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    trust_domain TEXT NOT NULL UNIQUE,
    data TEXT NOT NULL
  ) STRICT;

  CREATE TABLE entries (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    spiffe_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    x509_svid_ttl INTEGER NOT NULL,
    jwt_svid_ttl INTEGER NOT NULL,
    admin INTEGER NOT NULL,
    downstream INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    dns_names TEXT NOT NULL,
    revision_number INTEGER NOT NULL,
    store_svid INTEGER NOT NULL,
    hint TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    disable_x509_svid_prefetch INTEGER NOT NULL,
    jwt_svid_include_jti INTEGER NOT NULL,
    UNIQUE (spiffe_id, parent_id, selectors)
  ) STRICT;
  CREATE INDEX entries_parent_id ON entries (parent_id);
  CREATE INDEX entries_expires_at ON entries (expires_at) WHERE expires_at > 0;
  CREATE INDEX entries_hint ON entries (hint) WHERE hint <> '';

  CREATE TABLE entry_selectors (
    selector TEXT NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (selector, entry)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE entry_federation (
    entry INTEGER NOT NULL REFERENCES entries (row) ON DELETE CASCADE,
    trust_domain TEXT NOT NULL REFERENCES bundles (trust_domain) ON DELETE RESTRICT,
    PRIMARY KEY (entry, trust_domain)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX entry_federation_trust_domain ON entry_federation (trust_domain);

  CREATE TABLE nodes (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    attestation_type TEXT NOT NULL,
    serial_number TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    new_serial_number TEXT NOT NULL,
    new_expires_at INTEGER NOT NULL,
    can_reattest INTEGER NOT NULL,
    agent_version TEXT NOT NULL,
    selectors TEXT NOT NULL
  ) STRICT;

  CREATE TABLE node_selectors (
    selector TEXT NOT NULL,
    node INTEGER NOT NULL,
    PRIMARY KEY (selector, node)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE join_tokens (
    token TEXT NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX join_tokens_expires_at ON join_tokens (expires_at);

  CREATE TABLE journals (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    active_x509_authority_id TEXT NOT NULL UNIQUE,
    data TEXT NOT NULL
  ) STRICT;

  CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    key TEXT NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE federation_relationships (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    trust_domain TEXT NOT NULL UNIQUE,
    bundle_endpoint_url TEXT NOT NULL,
    bundle_endpoint_profile TEXT NOT NULL,
    endpoint_spiffe_id TEXT NOT NULL
  ) STRICT;
  `,
  `
  CREATE TABLE bundle_versions (
    trust_domain TEXT NOT NULL,
    sequence_number INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (trust_domain, sequence_number)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE agent_activity (
    id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    last_seen_at INTEGER NOT NULL,
    bundle_sequence INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE svid_horizons (
    authority_id TEXT NOT NULL,
    holders TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (authority_id, holders)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE rotations (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    data TEXT NOT NULL
  ) STRICT;

  CREATE TABLE rotation_moved (
    rotation TEXT NOT NULL,
    agent TEXT NOT NULL,
    PRIMARY KEY (rotation, agent)
  ) STRICT, WITHOUT ROWID;
  `,
  // Selectors in the order given, as JSON; null where that is the order of `selectors`.
  `
  ALTER TABLE entries ADD COLUMN given_selectors TEXT;
  `,
];

/** The version of a database that is up to date. */
export const newestSchema = steps.length;

/**
 * Brings the schema up to date.
 * @throws SpireError FAILED_PRECONDITION when the database is of a newer version, or not one of ours.
 */
export function migrate(connection: Connection, path: string, clock: Clock): void {
  inTransaction(connection, () => {
    if (tableExists(connection, "schema_versions")) return;
    if (connection.query("SELECT 1 FROM sqlite_schema LIMIT 1").get()) {
      throw new SpireError("FAILED_PRECONDITION", `datastore ${path} is a database of another program`);
    }
    connection.exec(
      "CREATE TABLE schema_versions (version INTEGER PRIMARY KEY, migrated_at INTEGER NOT NULL) STRICT",
    );
  });
  let version = currentVersion(connection);
  if (version < steps.length) {
    inTransaction(connection, () => {
      // Another server may have migrated while this one waited for the lock.
      version = currentVersion(connection);
      for (const step of steps.slice(version)) {
        connection.exec(step);
        version += 1;
        connection
          .query("INSERT INTO schema_versions (version, migrated_at) VALUES (?, ?)")
          .run(version, unixSeconds(clock));
      }
    });
  }
  if (version > steps.length) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `datastore ${path} has schema version ${version}, written by a newer program; this one knows version ${steps.length}: ` +
        'run that program, or restore a backup that was made before: "spire server restore FILE"',
    );
  }
}

function currentVersion(connection: Connection): number {
  const row = connection
    .query<{ version: number | null }>("SELECT max(version) AS version FROM schema_versions")
    .get();
  return row?.version ?? 0;
}

function tableExists(connection: Connection, name: string): boolean {
  return connection.query("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(name) !== null;
}

function inTransaction(connection: Connection, work: () => void): void {
  connection.exec("BEGIN IMMEDIATE");
  try {
    work();
    connection.exec("COMMIT");
  } catch (error) {
    rollBack(connection);
    throw error;
  }
}
