import { afterAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock } from "../../src/core/clock.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";
import { datastoreContract } from "./datastore.ts";

const clock = createManualClock(1_800_000_000_000);
const directory = mkdtempSync(join(tmpdir(), "spire-datastore-"));
let files = 0;
afterAll(() => rmSync(directory, { recursive: true, force: true }));

datastoreContract("sqlite, file", () => {
  files += 1;
  return createSqliteStore({ path: join(directory, `${files}.sqlite3`), clock });
});

datastoreContract("sqlite, memory", () => createSqliteStore({ path: ":memory:", clock }));
