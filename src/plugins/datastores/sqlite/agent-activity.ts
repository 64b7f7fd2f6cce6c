/** What agents were last seen to do, in SQLite. */
import type { AgentActivity, AgentActivityStore } from "../index.ts";
import type { Session } from "./connection.ts";

/** Rows that are written in one go: others' writes get their turn between two. */
const rowsAtOnce = 1_000;

export function createAgentActivityStore(session: Session): AgentActivityStore {
  return {
    list: () =>
      session.read((connection) =>
        connection
          .statement<AgentActivity>(
            `SELECT id, last_seen_at AS lastSeenAt, bundle_sequence AS bundleSequence
             FROM agent_activity ORDER BY id`,
          )
          .all(),
      ),
    async put(activities) {
      for (let start = 0; start < activities.length; start += rowsAtOnce) {
        const group = activities.slice(start, start + rowsAtOnce);
        await session.write((connection) => {
          const put = connection.statement(
            `INSERT INTO agent_activity (id, last_seen_at, bundle_sequence)
             SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM nodes WHERE id = ?1)
             ON CONFLICT (id) DO UPDATE SET last_seen_at = excluded.last_seen_at,
               bundle_sequence = excluded.bundle_sequence`,
          );
          for (const { id, lastSeenAt, bundleSequence } of group) put.run(id, lastSeenAt, bundleSequence);
        });
      }
    },
  };
}
