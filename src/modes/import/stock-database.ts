/** Reads a stock SPIRE server's SQLite database, piece by piece. */
import { Database } from "bun:sqlite";
import { SpireError } from "../../core/errors.ts";
import type { Selector } from "../../core/selector.ts";
import { closeDatabase, databaseError } from "../../plugins/datastores/sqlite/connection.ts";
import type { StoredRelationship } from "./stock-values.ts";

/** Schema versions that are read: of SPIRE 1.8 up to the newest known. */
const oldestSchema = 23;
const newestSchema = 25;

export interface StoredEntry {
  readonly id: number;
  readonly created_at: unknown;
  readonly entry_id: string;
  readonly spiffe_id: string;
  readonly parent_id: string;
  readonly ttl: number | null;
  readonly jwt_svid_ttl: number | null;
  readonly admin: number | null;
  readonly downstream: number | null;
  readonly expiry: number | null;
  readonly revision_number: number | null;
  readonly store_svid: number | null;
  readonly hint: string | null;
  readonly additional_attributes: Uint8Array | null;
  readonly selectors: readonly Selector[];
  readonly dnsNames: readonly string[];
  /** SPIFFE IDs of trust domains. */
  readonly federatesWith: readonly string[];
}

export interface StoredNode {
  readonly id: number;
  readonly spiffe_id: string;
  readonly data_type: string;
  readonly serial_number: string;
  readonly expires_at: unknown;
  readonly new_serial_number: string | null;
  readonly new_expires_at: unknown;
  readonly can_reattest: number | null;
  readonly agent_version: string | null;
  readonly selectors: readonly Selector[];
}

export interface StockDatabase {
  readonly schemaVersion: number;
  /** Of the program that wrote it. */
  readonly codeVersion: string;
  bundles(): readonly { readonly trust_domain: string; readonly data: Uint8Array }[];
  journals(): readonly { readonly id: number; readonly data: Uint8Array }[];
  relationships(): readonly StoredRelationship[];
  joinTokens(): readonly { readonly token: string; readonly expiry: number }[];
  entries(): Iterable<StoredEntry>;
  nodes(): Iterable<StoredNode>;
  close(): void;
}

const pageSize = 500;

/**
 * @param path a copy, with its log if it has one. @param original what messages call it.
 * @throws SpireError INVALID_ARGUMENT for a file that is no such database; FAILED_PRECONDITION for a schema that
 * isn't read; DATA_LOSS for a damaged one.
 */
export function openStockDatabase(path: string, original: string): StockDatabase {
  const database = open(path, original);
  try {
    return reader(database, readVersion(database, original));
  } catch (error) {
    closeDatabase(database);
    throw databaseError(error, original);
  }
}

function open(path: string, original: string): Database {
  try {
    const database = new Database(path, { readwrite: true, strict: true });
    const [first] = database.query<{ integrity_check: string }, []>("PRAGMA integrity_check(1)").all();
    if (first?.integrity_check === "ok") return database;
    closeDatabase(database);
    throw new SpireError("DATA_LOSS", `${original} is damaged: ${first?.integrity_check}`);
  } catch (cause) {
    if (cause instanceof SpireError) throw cause;
    const { message } = SpireError.from(cause);
    throw new SpireError(
      "INVALID_ARGUMENT",
      `${original} is no SQLite database that can be read: ${message}`,
      {
        cause,
      },
    );
  }
}

interface Version {
  readonly version: number;
  readonly code_version: string;
}

function readVersion(database: Database, original: string): Version {
  const has = (table: string) =>
    database
      .query<unknown, [string]>("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?")
      .get(table);
  if (!has("migrations") || !has("registered_entries")) {
    throw new SpireError("INVALID_ARGUMENT", `${original} is no database of a stock SPIRE server`);
  }
  const found = database
    .query<Version, []>("SELECT version, code_version FROM migrations ORDER BY id LIMIT 1")
    .get();
  const version = found?.version ?? 0;
  if (found && version >= oldestSchema && version <= newestSchema) return found;
  const known = `schema versions ${oldestSchema} to ${newestSchema} are taken over`;
  const remedy =
    version < oldestSchema
      ? "let SPIRE 1.8 or later bring it up to date first"
      : "it is newer than what this program knows";
  throw new SpireError(
    "FAILED_PRECONDITION",
    `${original} has schema version ${version}; ${known}: ${remedy}`,
  );
}

function reader(database: Database, { version, code_version: codeVersion }: Version): StockDatabase {
  const all = <Row>(sql: string): Row[] => database.query<Row, []>(sql).all();
  /** Rows of a table with what other tables say of them, some hundred at a time. */
  function* pages<Row extends { readonly id: number }, T>(
    table: string,
    complete: (rows: readonly Row[]) => readonly T[],
  ): Iterable<T> {
    const page = database.query<Row, [number]>(
      `SELECT * FROM ${table} WHERE id > ? ORDER BY id LIMIT ${pageSize}`,
    );
    for (let last = 0; ; ) {
      const rows = page.all(last);
      yield* complete(rows);
      const end = rows.at(-1);
      if (!end) return;
      last = end.id;
    }
  }
  return {
    schemaVersion: version,
    codeVersion,
    bundles: () => all("SELECT trust_domain, data FROM bundles ORDER BY id"),
    journals: () => all("SELECT id, data FROM ca_journals ORDER BY id"),
    relationships: () =>
      all(`SELECT trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id
        FROM federated_trust_domains ORDER BY id`),
    joinTokens: () => all("SELECT token, expiry FROM join_tokens ORDER BY id"),
    entries: () =>
      pages<EntryRow, StoredEntry>("registered_entries", (rows) => completeEntries(database, rows)),
    nodes: () => pages<NodeRow, StoredNode>("attested_node_entries", (rows) => completeNodes(database, rows)),
    close: () => closeDatabase(database),
  };
}

type EntryRow = Omit<StoredEntry, "selectors" | "dnsNames" | "federatesWith">;
type NodeRow = Omit<StoredNode, "selectors">;

/** Columns that came with later schemas are undefined before. */
function completeEntries(database: Database, rows: readonly EntryRow[]): readonly StoredEntry[] {
  const ids = JSON.stringify(rows.map(({ id }) => id));
  const within = "IN (SELECT value FROM json_each(?))";
  const selectors = grouped(
    database
      .query<{ owner: number } & Selector, [string]>(
        `SELECT registered_entry_id AS owner, type, value FROM selectors WHERE registered_entry_id ${within} ORDER BY id`,
      )
      .all(ids),
  );
  const names = grouped(
    database
      .query<{ owner: number; value: string }, [string]>(
        `SELECT registered_entry_id AS owner, value FROM dns_names WHERE registered_entry_id ${within} ORDER BY id`,
      )
      .all(ids),
  );
  const federated = grouped(
    database
      .query<{ owner: number; value: string }, [string]>(
        `SELECT registered_entry_id AS owner, trust_domain AS value FROM federated_registration_entries
         JOIN bundles ON bundles.id = bundle_id WHERE registered_entry_id ${within} ORDER BY bundle_id`,
      )
      .all(ids),
  );
  return rows.map((row) => ({
    ...row,
    additional_attributes: row.additional_attributes ?? null,
    selectors: (selectors.get(row.id) ?? []).map(({ type, value }) => ({ type, value })),
    dnsNames: (names.get(row.id) ?? []).map(({ value }) => value),
    federatesWith: (federated.get(row.id) ?? []).map(({ value }) => value),
  }));
}

function completeNodes(database: Database, rows: readonly NodeRow[]): readonly StoredNode[] {
  const selectors = grouped(
    database
      .query<{ owner: string } & Selector, [string]>(
        `SELECT spiffe_id AS owner, type, value FROM node_resolver_map_entries
         WHERE spiffe_id IN (SELECT value FROM json_each(?)) ORDER BY id`,
      )
      .all(JSON.stringify(rows.map((row) => row.spiffe_id))),
  );
  return rows.map((row) => ({
    ...row,
    agent_version: row.agent_version ?? null,
    selectors: (selectors.get(row.spiffe_id) ?? []).map(({ type, value }) => ({ type, value })),
  }));
}

function grouped<K, Row extends { readonly owner: K }>(rows: readonly Row[]): ReadonlyMap<K, readonly Row[]> {
  return Map.groupBy(rows, ({ owner }) => owner);
}
