/** The SQLite datastore: one file, one writer, durable on acknowledgement. */
import type { Clock } from "../../../core/clock.ts";
import type { Store } from "../index.ts";
import { createBundleStore } from "./bundles.ts";
import { createChangeFeed } from "./changes.ts";
import { openDatabase, type Session } from "./connection.ts";
import { createEntryStore } from "./entries.ts";
import { createFederationStore } from "./federation.ts";
import { createJournalStore } from "./journals.ts";
import { migrate } from "./migrations.ts";
import { createNodeStore } from "./nodes.ts";
import { createJoinTokenStore } from "./tokens.ts";

export interface SqliteOptions {
  /** A file in an existing directory, or `:memory:`. */
  readonly path: string;
  /** Dates the migrations. */
  readonly clock: Clock;
}

/**
 * Opens the database, creating and migrating it as needed.
 * @throws SpireError FAILED_PRECONDITION when a newer or another program has written it; DATA_LOSS when it is
 * damaged; UNAVAILABLE while another process blocks it; INTERNAL when it can't be opened.
 */
export async function createSqliteStore({ path, clock }: SqliteOptions): Promise<Store> {
  const database = openDatabase(path, (writer) => migrate(writer, path, clock));
  return {
    ...createGroups(database),
    transaction: (work) => database.transaction((session) => work(createGroups(session))),
    close: () => database.close(),
  };
}

const createGroups = (session: Session): Omit<Store, "transaction" | "close"> => ({
  entries: createEntryStore(session),
  nodes: createNodeStore(session),
  bundles: createBundleStore(session),
  federation: createFederationStore(session),
  joinTokens: createJoinTokenStore(session),
  journals: createJournalStore(session),
  changes: createChangeFeed(session),
});
