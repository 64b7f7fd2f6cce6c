/** The SQLite datastore: one file, one writer, durable on acknowledgement. */
import { statSync } from "node:fs";
import type { Clock } from "../../../core/clock.ts";
import { SpireError } from "../../../core/errors.ts";
import type { Store } from "../index.ts";
import { createAgentActivityStore } from "./agent-activity.ts";
import { createBundleStore } from "./bundles.ts";
import { createChangeFeed } from "./changes.ts";
import { memory, openDatabase, type Session, type SqliteDatabase } from "./connection.ts";
import { requireSound } from "./damage.ts";
import { createEntryStore } from "./entries.ts";
import { createFederationStore } from "./federation.ts";
import { createJournalStore } from "./journals.ts";
import { requireWholeLog } from "./log-check.ts";
import { migrate } from "./migrations.ts";
import { createNodeStore } from "./nodes.ts";
import { finishReplacement } from "./replacement.ts";
import { createRotationStore, createSvidHorizonStore } from "./rotations.ts";
import { breakSeal, sealDatabase } from "./seal.ts";
import { createJoinTokenStore } from "./tokens.ts";

export interface SqliteOptions {
  /** A file in an existing directory, or `:memory:`. */
  readonly path: string;
  /** Dates the migrations. */
  readonly clock: Clock;
  /** Called when SQLite finds the open database damaged: with each error that says so. */
  readonly onDamage?: (error: SpireError) => void;
}

/**
 * Opens the database, creating and migrating it as needed.
 * @throws SpireError FAILED_PRECONDITION when a newer or another program has written it; DATA_LOSS when it is
 * damaged; UNAVAILABLE while another process blocks it; INTERNAL when it can't be opened.
 */
export async function createSqliteStore(options: SqliteOptions): Promise<Store> {
  const { path } = options;
  const isFile = path !== memory;
  if (isFile) await finishReplacement({ databasePath: path });
  if (isFile) await breakSeal(path);
  if (isFile) requireWholeLog(path);
  const database = tellingDamage(openUnmoved(options), options.onDamage);
  return {
    ...createGroups(database),
    transaction: (work) => database.transaction((session) => work(createGroups(session))),
    async close() {
      await database.close();
      if (isFile) await sealDatabase(path);
    },
  };
}

function tellingDamage(database: SqliteDatabase, onDamage: SqliteOptions["onDamage"]): SqliteDatabase {
  if (!onDamage) return database;
  const told = (error: unknown): never => {
    if (error instanceof SpireError && error.code === "DATA_LOSS") onDamage(error);
    throw error;
  };
  return {
    read: (work) => database.read(work).catch(told),
    write: (work) => database.write(work).catch(told),
    transaction: (work) => database.transaction(work).catch(told),
    close: () => database.close(),
  };
}

/** A restore may put another file in its place while this one waits for the lock; the old one is nobody's then. */
function openUnmoved({ path, clock }: SqliteOptions): SqliteDatabase {
  const inode = () => statSync(path, { throwIfNoEntry: false })?.ino;
  for (;;) {
    const before = inode();
    const database = openDatabase(path, (writer) => {
      requireSound(writer, path);
      migrate(writer, path, clock);
    });
    if (before === undefined || before === inode()) return database;
    void database.close();
  }
}

const createGroups = (session: Session): Omit<Store, "transaction" | "close"> => ({
  entries: createEntryStore(session),
  nodes: createNodeStore(session),
  bundles: createBundleStore(session),
  federation: createFederationStore(session),
  joinTokens: createJoinTokenStore(session),
  journals: createJournalStore(session),
  agentActivity: createAgentActivityStore(session),
  svidHorizons: createSvidHorizonStore(session),
  rotations: createRotationStore(session),
  changes: createChangeFeed(session),
});
