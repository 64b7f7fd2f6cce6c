/** Join tokens in SQLite. */
import { SpireError } from "../../../core/errors.ts";
import type { JoinToken, JoinTokenStore } from "../index.ts";
import type { Session } from "./connection.ts";

export function createJoinTokenStore(session: Session): JoinTokenStore {
  return {
    create: ({ token, expiresAt }) =>
      session.write((connection) => {
        const { changes } = connection
          .statement("INSERT INTO join_tokens (token, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING")
          .run(token, expiresAt);
        if (changes === 0) throw new SpireError("ALREADY_EXISTS", "join token exists already");
      }),
    take: (token) =>
      session.write(
        (connection) =>
          connection
            .statement<JoinToken>(
              "DELETE FROM join_tokens WHERE token = ? RETURNING token, expires_at AS expiresAt",
            )
            .get(token) ?? undefined,
      ),
    pruneExpired: (now) =>
      session.write(
        (connection) => connection.statement("DELETE FROM join_tokens WHERE expires_at < ?").run(now).changes,
      ),
  };
}
