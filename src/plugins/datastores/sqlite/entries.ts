/** Registration entries in SQLite. */
import { randomUUID } from "node:crypto";
import type { Entry, EntryDraft } from "../../../core/entry.ts";
import { SpireError } from "../../../core/errors.ts";
import { formatSelector, selectorSetKey, uniqueSelectors } from "../../../core/selector.ts";
import type { CreateOutcome, EntryStore, EntryUpdate, UpdateOutcome } from "../index.ts";
import { recordChange } from "./changes.ts";
import type { Connection, Session } from "./connection.ts";
import { entryConditions, selectCount, selectPage } from "./filters.ts";
import { type EntryRow, entryColumns, entryValues, readEntry } from "./rows.ts";

export function createEntryStore(session: Session): EntryStore {
  return {
    create: (drafts, now) =>
      session.write((connection) => drafts.map((draft) => createEntry(connection, draft, now))),
    update: (updates) =>
      session.write((connection) => updates.map((update) => updateEntry(connection, update))),
    delete: (ids) => session.write((connection) => ids.map((id) => deleteEntry(connection, id))),
    get: (ids) => session.read((connection) => ids.map((id) => optional(findById(connection, id)))),
    list: (filter, page) =>
      session.read((connection) =>
        selectPage(
          connection,
          { columns: entryColumns, table: "entries", read: readEntry },
          entryConditions(filter),
          page,
        ),
      ),
    count: (filter) =>
      session.read((connection) => selectCount(connection, "entries", entryConditions(filter))),
    pruneExpired: (now) =>
      session.write((connection) => {
        const expired = connection
          .statement<{ id: string }>("SELECT id FROM entries WHERE expires_at > 0 AND expires_at < ?")
          .all(now);
        return expired.map(({ id }) => id).filter((id) => deleteEntry(connection, id));
      }),
  };
}

const insertSql = `INSERT INTO entries (id, spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, admin,
    downstream, expires_at, dns_names, revision_number, store_svid, hint, created_at,
    disable_x509_svid_prefetch, jwt_svid_include_jti, given_selectors)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT DO NOTHING RETURNING row`;

function createEntry(connection: Connection, draft: EntryDraft, now: number): CreateOutcome {
  const entry: Entry = normalise({
    ...draft,
    id: draft.id || randomUUID(),
    revisionNumber: 0,
    createdAt: now,
  });
  const unknown = unknownBundle(connection, draft.federatesWith);
  const inserted = unknown
    ? null
    : connection.statement<{ row: number }>(insertSql).get(...entryValues(entry));
  if (!inserted) {
    const similar = findSimilar(connection, entry);
    if (similar) return { entry: readEntry(similar), existing: true };
    return {
      error: unknown ?? new SpireError("ALREADY_EXISTS", `an entry with ID "${entry.id}" exists already`),
    };
  }
  insertSelectors(connection, inserted.row, entry);
  insertFederation(connection, inserted.row, entry);
  recordChange(connection, "entry", entry.id);
  return { entry, existing: false };
}

const updateSql = `UPDATE entries SET id = ?, spiffe_id = ?, parent_id = ?, selectors = ?, x509_svid_ttl = ?,
    jwt_svid_ttl = ?, admin = ?, downstream = ?, expires_at = ?, dns_names = ?, revision_number = ?,
    store_svid = ?, hint = ?, created_at = ?, disable_x509_svid_prefetch = ?, jwt_svid_include_jti = ?,
    given_selectors = ?
  WHERE row = ?`;

function updateEntry(connection: Connection, { id, fields }: EntryUpdate): UpdateOutcome {
  const stored = findById(connection, id);
  if (!stored) return { error: new SpireError("NOT_FOUND", "entry not found") };
  const before = readEntry(stored);
  const after = normalise({ ...before, ...fields, id, revisionNumber: before.revisionNumber + 1 });
  const similar = findSimilar(connection, after);
  if (similar && similar.row !== stored.row) {
    return { error: new SpireError("ALREADY_EXISTS", "similar entry already exists") };
  }
  const unknown = unknownBundle(connection, fields.federatesWith ?? []);
  if (unknown) return { error: unknown };

  deleteSelectors(connection, stored.row, before);
  connection.statement("DELETE FROM entry_federation WHERE entry = ?").run(stored.row);
  connection.statement(updateSql).run(...entryValues(after), stored.row);
  insertSelectors(connection, stored.row, after);
  insertFederation(connection, stored.row, after);
  recordChange(connection, "entry", id);
  return { entry: after };
}

/** Deletes an entry as part of the transaction under way; whether it was there. */
export function deleteEntry(connection: Connection, id: string): boolean {
  const stored = findById(connection, id);
  if (!stored) return false;
  deleteSelectors(connection, stored.row, readEntry(stored));
  connection.statement("DELETE FROM entries WHERE row = ?").run(stored.row);
  recordChange(connection, "entry", id);
  return true;
}

/** The form that is stored and handed out: sets without doubles; trust domains sorted. */
function normalise(entry: Entry): Entry {
  return {
    ...entry,
    selectors: uniqueSelectors(entry.selectors),
    federatesWith: [...new Set(entry.federatesWith)].sort(),
  };
}

function findById(connection: Connection, id: string): EntryRow | null {
  return connection.statement<EntryRow>(`SELECT ${entryColumns} FROM entries WHERE id = ?`).get(id);
}

function findSimilar(connection: Connection, entry: Entry): EntryRow | null {
  return connection
    .statement<EntryRow>(
      `SELECT ${entryColumns} FROM entries WHERE spiffe_id = ? AND parent_id = ? AND selectors = ?`,
    )
    .get(entry.spiffeId, entry.parentId, selectorSetKey(entry.selectors));
}

const optional = (row: EntryRow | null): Entry | undefined => (row ? readEntry(row) : undefined);

function unknownBundle(connection: Connection, trustDomains: readonly string[]): SpireError | undefined {
  const find = connection.statement("SELECT 1 FROM bundles WHERE trust_domain = ?");
  const unknown = trustDomains.find((trustDomain) => find.get(trustDomain) === null);
  return unknown === undefined
    ? undefined
    : new SpireError("INTERNAL", `unable to find federated bundle "spiffe://${unknown}"`);
}

function insertSelectors(connection: Connection, row: number, entry: Entry): void {
  const insert = connection.statement("INSERT INTO entry_selectors (selector, entry) VALUES (?, ?)");
  for (const selector of entry.selectors) insert.run(formatSelector(selector), row);
}

function deleteSelectors(connection: Connection, row: number, entry: Entry): void {
  const remove = connection.statement("DELETE FROM entry_selectors WHERE selector = ? AND entry = ?");
  for (const selector of entry.selectors) remove.run(formatSelector(selector), row);
}

function insertFederation(connection: Connection, row: number, entry: Entry): void {
  const insert = connection.statement("INSERT INTO entry_federation (entry, trust_domain) VALUES (?, ?)");
  for (const trustDomain of entry.federatesWith) insert.run(row, trustDomain);
}
