/** CA journals in SQLite: one record for each server that shares the database. */
import type { JournalRecord, JournalStore } from "../index.ts";
import type { Session } from "./connection.ts";

export function createJournalStore(session: Session): JournalStore {
  return {
    find: (x509AuthorityIds) =>
      session.read(
        (connection) =>
          connection
            .statement<JournalRecord>(
              `SELECT active_x509_authority_id AS activeX509AuthorityId, data FROM journals
               WHERE active_x509_authority_id IN (SELECT value FROM json_each(?)) ORDER BY row LIMIT 1`,
            )
            .get(JSON.stringify(x509AuthorityIds)) ?? undefined,
      ),
    put: (record, previousAuthorityId) =>
      session.write((connection) => {
        if (previousAuthorityId !== undefined && previousAuthorityId !== record.activeX509AuthorityId) {
          connection
            .statement("DELETE FROM journals WHERE active_x509_authority_id = ?")
            .run(previousAuthorityId);
        }
        connection
          .statement(
            `INSERT INTO journals (active_x509_authority_id, data) VALUES (?, ?)
             ON CONFLICT (active_x509_authority_id) DO UPDATE SET data = excluded.data`,
          )
          .run(record.activeX509AuthorityId, record.data);
      }),
    list: () =>
      session.read((connection) =>
        connection
          .statement<JournalRecord>(
            "SELECT active_x509_authority_id AS activeX509AuthorityId, data FROM journals ORDER BY row",
          )
          .all(),
      ),
    delete: (activeX509AuthorityId) =>
      session.write(
        (connection) =>
          connection
            .statement("DELETE FROM journals WHERE active_x509_authority_id = ? RETURNING row")
            .get(activeX509AuthorityId) !== null,
      ),
  };
}
