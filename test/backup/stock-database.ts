/** A stock SPIRE server's database, put together from what was recorded of one. */
import { Database, type SQLQueryBindings } from "bun:sqlite";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const golden = join(import.meta.dir, "../golden/disk/server");

export const goldenKeys = join(golden, "keys.json");

type Row = Readonly<Record<string, unknown>>;

const recorded = JSON.parse(readFileSync(join(golden, "sqlite-rows.json"), "utf8")) as Record<
  string,
  { readonly rows: readonly Row[] }
>;

/** Bytes are recorded as base64. */
const storedValue = (value: unknown): SQLQueryBindings =>
  typeof value === "object" && value !== null && "base64" in value
    ? Buffer.from(String(value.base64), "base64")
    : (value as SQLQueryBindings);

export interface StockRows {
  insert(table: string, row: Row): void;
  run(sql: string): void;
}

/** Makes the database with the recorded sample of rows, and what `more` adds. */
export function makeStockDatabase(path: string, more: (rows: StockRows) => void = () => {}): void {
  const database = new Database(path, { create: true, readwrite: true });
  const schema = readFileSync(join(golden, "sqlite-schema.sql"), "utf8")
    .split(";\n")
    .filter((statement) => statement.trim() !== "" && !statement.includes("sqlite_sequence"));
  for (const statement of schema) database.run(statement);
  const insert = (table: string, row: Row) => {
    const names = Object.keys(row);
    const places = names.map(() => "?").join(", ");
    database
      .query(`INSERT INTO "${table}" (${names.map((name) => `"${name}"`).join(", ")}) VALUES (${places})`)
      .run(...Object.values(row).map(storedValue));
  };
  for (const [table, { rows }] of Object.entries(recorded)) {
    if (table !== "sqlite_sequence") for (const row of rows) insert(table, row);
  }
  more({ insert, run: (sql) => void database.run(sql) });
  database.clearQueryCache();
  database.close(true);
}
