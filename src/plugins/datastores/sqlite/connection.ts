/** Connections to one SQLite database: a writer whose transactions take turns, and a reader of what is committed. */
import { Database, type SQLQueryBindings, type Statement } from "bun:sqlite";
import { accessSync, chmodSync, closeSync, constants, fchmodSync, openSync, statSync } from "node:fs";
import { SpireError, type StatusName } from "../../../core/errors.ts";
import { reasonOf } from "../../../files/failure.ts";
import { restoreAdvice } from "./damage.ts";

type Bindings = SQLQueryBindings[];

/** One connection, with its statements compiled once. */
export interface Connection {
  /** For SQL that is written in the code: compiled once and kept. */
  statement<Row>(sql: string): Statement<Row, Bindings>;
  /** For SQL put together from a filter: only the most recent ones are kept. */
  query<Row>(sql: string): Statement<Row, Bindings>;
  exec(sql: string): void;
  inTransaction(): boolean;
}

/** How a group of the store reaches the database. Work is synchronous, so nothing can come in between. */
export interface Session {
  /** Sees committed data only, or, within a transaction, that transaction's. */
  read<T>(work: (connection: Connection) => T): Promise<T>;
  /** Commits or leaves no trace; within a transaction, becomes a part of that. Durable when it resolves. */
  write<T>(work: (connection: Connection) => T): Promise<T>;
}

export interface SqliteDatabase extends Session {
  /** Runs `work` with a session whose writes commit together. */
  transaction<T>(work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The path of a database in memory. */
export const memory = ":memory:";
/** Another process may hold the write lock for as long as its transaction takes. */
const busyTimeoutMs = 5_000;
/** Writes that wait at the same time share one commit, up to this many. */
const largestGroup = 64;

const pragmas = [
  `busy_timeout = ${busyTimeoutMs}`,
  "journal_mode = WAL",
  // FULL syncs the log at each commit: what was acknowledged survives a power failure too.
  "synchronous = FULL",
  "foreign_keys = ON",
  "temp_store = MEMORY",
  // Pages that many small commits have in common go back into the database once, not with each thousand pages.
  "wal_autocheckpoint = 4000",
];

/**
 * Opens (creating it with mode 0600) a database file, or one in memory, and lets `prepare` bring its schema up
 * to date. @throws SpireError.
 */
export function openDatabase(path: string, prepare: (writer: Connection) => void): SqliteDatabase {
  const handles: Handle[] = [];
  try {
    if (path !== memory) makePrivate(path);
    const writer = open(path, handles);
    prepare(writer);
    // A database in memory belongs to one connection: there, reads wait for the transaction to end.
    const reader = path === memory ? undefined : open(path, handles);
    reader?.exec("PRAGMA query_only = ON");
    return createSessions(path, writer, reader, () => closeAll(handles));
  } catch (error) {
    closeAll(handles);
    throw databaseError(error, path);
  }
}

interface Handle {
  readonly database: Database;
  /** By their SQL. */
  readonly statements: Map<string, Statement<unknown, Bindings>>;
}

function closeAll(handles: readonly Handle[]): void {
  for (const { database, statements } of handles) closeDatabase(database, [...statements.values()]);
}

/** Ends a connection for good: with a statement left, SQLite would keep its files open until that is collected. */
export function closeDatabase(database: Database, statements: readonly { finalize(): void }[] = []): void {
  for (const statement of statements) statement.finalize();
  database.clearQueryCache();
  try {
    database.close(true);
  } catch {
    Bun.gc(true);
    database.close();
  }
}

function open(path: string, handles: Handle[]): Connection {
  const handle = new Database(path, { readwrite: true, create: true, strict: true });
  const statements = new Map<string, Statement<unknown, Bindings>>();
  handles.push({ database: handle, statements });
  for (const pragma of pragmas) handle.run(`PRAGMA ${pragma}`);
  return {
    statement<Row>(sql: string) {
      let statement = statements.get(sql);
      if (!statement) {
        statement = handle.prepare<unknown, Bindings>(sql);
        statements.set(sql, statement);
      }
      return statement as Statement<Row, Bindings>;
    },
    query: (sql) => handle.query(sql),
    exec: (sql) => void handle.run(sql),
    inTransaction: () => handle.inTransaction,
  };
}

/**
 * SQLite gives its log and index files the mode of the database itself. Closing a file lifts all locks that this
 * process has on it, and another process that then ends its work with the database takes itself for the last one and
 * deletes the log. So a file that is there is only looked at.
 */
function makePrivate(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) {
    accessSync(path, constants.R_OK);
    chmodSync(path, 0o600);
    return;
  }
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  try {
    fchmodSync(file, 0o600);
  } finally {
    closeSync(file);
  }
}

interface PendingWrite {
  readonly work: (connection: Connection) => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

function createSessions(
  path: string,
  writer: Connection,
  reader: Connection | undefined,
  closeHandles: () => void,
): SqliteDatabase {
  const turns = createTurns();
  let pending: PendingWrite[] = [];
  let flushing = false;
  let closed = false;

  const requireOpen = () => {
    if (closed) throw new SpireError("UNAVAILABLE", "the datastore is closed");
  };

  async function flush(): Promise<void> {
    while (pending.length > 0) {
      await turns.take(() => {
        const group = pending.slice(0, largestGroup);
        pending = pending.slice(largestGroup);
        if (group.length > 0) commitGroup(path, writer, group);
      });
    }
    flushing = false;
  }

  return {
    async read(work) {
      requireOpen();
      if (reader) return guarded(path, () => work(reader));
      return turns.take(() => guarded(path, () => work(writer)));
    },
    write<T>(work: (connection: Connection) => T): Promise<T> {
      return new Promise<T>((resolve, reject) => {
        requireOpen();
        pending.push({ work, resolve: (value) => resolve(value as T), reject });
        if (flushing) return;
        flushing = true;
        // Requests that arrive in the same turn of the event loop share the commit.
        setImmediate(() => void flush());
      });
    },
    transaction: (work) =>
      turns.take(async () => {
        requireOpen();
        return runTransaction(path, writer, work);
      }),
    close: () =>
      turns.take(() => {
        if (closed) return;
        closed = true;
        for (const { reject } of pending.splice(0)) {
          reject(new SpireError("UNAVAILABLE", "the datastore is closed"));
        }
        closeHandles();
      }),
  };
}

/** Runs each write under a savepoint of its own in one transaction, and settles them once that is committed. */
function commitGroup(path: string, writer: Connection, group: readonly PendingWrite[]): void {
  const settled: (() => void)[] = [];
  try {
    writer.exec("BEGIN IMMEDIATE");
    for (const { work, resolve, reject } of group) {
      try {
        const value = savepoint(writer, work);
        settled.push(() => resolve(value));
      } catch (error) {
        // A full disk ends the whole transaction: what came before is gone, and what comes would stand alone.
        if (!writer.inTransaction()) throw error;
        settled.push(() => reject(databaseError(error, path)));
      }
    }
    writer.exec("COMMIT");
  } catch (error) {
    rollBack(writer);
    for (const { reject } of group) reject(databaseError(error, path));
    return;
  }
  for (const settle of settled) settle();
}

async function runTransaction<T>(
  path: string,
  writer: Connection,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  let ended = false;
  const inside = async <R>(step: () => R): Promise<R> => {
    if (ended) throw new SpireError("INTERNAL", "the transaction has ended");
    return guarded(path, step);
  };
  const session: Session = {
    read: (step) => inside(() => step(writer)),
    write: (step) => inside(() => savepoint(writer, step)),
  };
  guarded(path, () => writer.exec("BEGIN IMMEDIATE"));
  try {
    const result = await work(session);
    guarded(path, () => writer.exec("COMMIT"));
    return result;
  } catch (error) {
    rollBack(writer);
    throw error;
  } finally {
    ended = true;
  }
}

/** A write that fails leaves nothing, whatever else is in the transaction. */
function savepoint<T>(writer: Connection, work: (connection: Connection) => T): T {
  if (!writer.inTransaction()) throw new SpireError("ABORTED", "the transaction was rolled back");
  writer.statement("SAVEPOINT item").run();
  try {
    const value = work(writer);
    writer.statement("RELEASE item").run();
    return value;
  } catch (error) {
    if (writer.inTransaction()) {
      writer.statement("ROLLBACK TO item").run();
      writer.statement("RELEASE item").run();
    }
    throw error;
  }
}

/** Ends the transaction, if there still is one, without a trace. */
export function rollBack(writer: Connection): void {
  try {
    writer.exec("ROLLBACK");
  } catch {
    // SQLite has rolled back by itself already, as it does after a full disk or an I/O error.
  }
}

/** One piece of work after the other, in the order they came. */
function createTurns() {
  let last: Promise<unknown> = Promise.resolve();
  return {
    take<T>(work: () => T | Promise<T>): Promise<T> {
      const turn = last.then(work);
      last = turn.catch(() => undefined);
      return turn;
    },
  };
}

function guarded<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw databaseError(error, path);
  }
}

const codes: Readonly<Record<string, StatusName>> = {
  SQLITE_BUSY: "UNAVAILABLE",
  SQLITE_LOCKED: "UNAVAILABLE",
  SQLITE_FULL: "RESOURCE_EXHAUSTED",
  SQLITE_CORRUPT: "DATA_LOSS",
  SQLITE_NOTADB: "DATA_LOSS",
};

/** SQLite's primary result code > what to do about it. */
const advice: Readonly<Record<string, string>> = {
  SQLITE_FULL: "make room on its file system",
  SQLITE_IOERR: "see whether its file system is full, or failing",
  SQLITE_CORRUPT: restoreAdvice,
  SQLITE_NOTADB: restoreAdvice,
  SQLITE_READONLY: "give the user who runs this the right to write to it and to its directory",
  SQLITE_CANTOPEN: "give the user who runs this the right to write to it and to its directory",
};

/** What SQLite threw, in words for whoever runs the program; a SpireError as it is. */
export function databaseError(error: unknown, path: string): SpireError {
  if (error instanceof SpireError) return error;
  const primary = /^SQLITE_[A-Z]+/.exec(codeOf(error))?.[0] ?? "";
  const known = advice[primary];
  const message = known === undefined ? reasonOf(error) : `${reasonOf(error)}; ${known}`;
  return new SpireError(codes[primary] ?? "INTERNAL", `datastore ${path}: ${message}`, { cause: error });
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
