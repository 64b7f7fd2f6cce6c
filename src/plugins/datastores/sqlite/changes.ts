/** The change feed: rows that a write adds in its own transaction. */
import type { Change, ChangeFeed } from "../index.ts";
import type { Connection, Session } from "./connection.ts";

/** Notes a change as part of the transaction under way. */
export function recordChange(connection: Connection, kind: Change["kind"], key: string): void {
  connection.statement("INSERT INTO changes (kind, key) VALUES (?, ?)").run(kind, key);
}

export function createChangeFeed(session: Session): ChangeFeed {
  return {
    latest: () =>
      session.read((connection) => {
        // The counter outlives the rows that `prune` takes away.
        const row = connection
          .statement<{ seq: number }>("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
          .get();
        return row?.seq ?? 0;
      }),
    after: (sequence, limit) =>
      session.read((connection) =>
        connection
          .statement<Change>(
            "SELECT sequence, kind, key FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?",
          )
          .all(sequence, limit),
      ),
    prune: (sequence) =>
      session.write((connection) => {
        connection.statement("DELETE FROM changes WHERE sequence <= ?").run(sequence);
      }),
  };
}
