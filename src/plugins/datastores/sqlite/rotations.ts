/** What an operation that replaces authorities has to know after a restart, in SQLite. */
import type { SpiffeId } from "../../../core/spiffe-id.ts";
import type { RotationRecord, RotationStore, SvidHorizon, SvidHorizonStore } from "../index.ts";
import type { Session } from "./connection.ts";

export function createSvidHorizonStore(session: Session): SvidHorizonStore {
  return {
    list: () =>
      session.read((connection) =>
        connection
          .statement<SvidHorizon>(
            "SELECT authority_id AS authorityId, holders, expires_at AS expiresAt FROM svid_horizons",
          )
          .all(),
      ),
    raise: ({ authorityId, holders, expiresAt }) =>
      session.write((connection) => {
        connection
          .statement(
            `INSERT INTO svid_horizons (authority_id, holders, expires_at) VALUES (?, ?, ?)
             ON CONFLICT (authority_id, holders)
             DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)`,
          )
          .run(authorityId, holders, expiresAt);
      }),
    prune: (now) =>
      session.write((connection) => {
        connection.statement("DELETE FROM svid_horizons WHERE expires_at < ?").run(now);
      }),
  };
}

export function createRotationStore(session: Session): RotationStore {
  return {
    latest: () =>
      session.read(
        (connection) =>
          connection
            .statement<RotationRecord>("SELECT id, data FROM rotations ORDER BY row DESC LIMIT 1")
            .get() ?? undefined,
      ),
    put: ({ id, data }) =>
      session.write((connection) => {
        connection
          .statement(
            `INSERT INTO rotations (id, data) VALUES (?, ?)
             ON CONFLICT (id) DO UPDATE SET data = excluded.data`,
          )
          .run(id, data);
      }),
    moved: (rotationId) =>
      session.read((connection) =>
        connection
          .statement<{ agent: SpiffeId }>("SELECT agent FROM rotation_moved WHERE rotation = ?")
          .all(rotationId)
          .map(({ agent }) => agent),
      ),
    addMoved: (rotationId, agents) =>
      session.write((connection) => {
        const add = connection.statement(
          "INSERT INTO rotation_moved (rotation, agent) VALUES (?, ?) ON CONFLICT DO NOTHING",
        );
        for (const agent of agents) add.run(rotationId, agent);
      }),
    clearMoved: () =>
      session.write((connection) => {
        connection.statement("DELETE FROM rotation_moved").run();
      }),
  };
}
