/** A stock server's data, taken over from what was recorded of one: all of it goes on, and what can't is named. */

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import { agentId, makeSpiffeId, parseSpiffeId, parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { type ImportJob, takeOver } from "../../src/modes/import/take-over.ts";
import { defaultServerSettings } from "../../src/modes/server/settings.ts";
import { startServer } from "../../src/modes/server.ts";
import type { Store } from "../../src/plugins/datastores/index.ts";
import { createSqliteStore } from "../../src/plugins/datastores/sqlite/store.ts";
import { goldenKeys, makeStockDatabase, type StockRows } from "./stock-database.ts";

const trustDomain = parseTrustDomain("example.org");
/** Within the lives of the recorded authorities. */
const clock = createManualClock(Date.parse("2026-11-22T04:10:00Z"));
const date = "2026-11-22 03:50:00.6+00:00";

let directory: string;
let from: string;
let data: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-import-"));
  from = join(directory, "stock.sqlite3");
  data = join(directory, "data");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const databasePath = () => join(data, "datastore.sqlite3");
const keysPath = () => join(data, "keys.json");
const socketPath = () => join(directory, "private", "api.sock");

const run = (job: Partial<ImportJob> = {}, keys: { fromKeys?: string } = { fromKeys: goldenKeys }) =>
  takeOver(
    {
      trustDomain,
      databasePath: databasePath(),
      socketPath: socketPath(),
      keysPath: keysPath(),
      from,
      ...keys,
      replace: false,
      dryRun: false,
      ...job,
    },
    clock,
  );

async function withStore<T>(work: (store: Store) => Promise<T>): Promise<T> {
  const store = await createSqliteStore({ path: databasePath(), clock });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

const failureOf = (work: Promise<unknown>): Promise<SpireError> =>
  work.then(
    () => Promise.reject(new Error("it did not fail")),
    (error) => SpireError.from(error),
  );

/** Of those entries whose selectors were not recorded. */
const addSelectors = ({ insert }: StockRows) => {
  for (const entry of [6, 10, 33, 23]) {
    insert("selectors", { registered_entry_id: entry, type: "unix", value: `uid:${entry}` });
  }
};

const recordedAgent = parseSpiffeId(
  "spiffe://example.org/spire/agent/join_token/4992d06f-8027-4c0e-94f2-b97385386d70",
);

test("entries, agents, bundles, relationships and tokens are what they were", async () => {
  makeStockDatabase(from, (rows) => {
    addSelectors(rows);
    rows.run("UPDATE join_tokens SET expiry = 1795320601 WHERE id = 1");
    rows.insert("registered_entries", {
      id: 500,
      created_at: date,
      entry_id: "all",
      spiffe_id: "spiffe://example.org/all",
      parent_id: recordedAgent,
      ttl: 61,
      jwt_svid_ttl: 62,
      admin: 1,
      downstream: 1,
      expiry: 1_999_999_999,
      revision_number: 9,
      store_svid: 0,
      hint: "a hint",
    });
    for (const value of ["uid:1", "gid:2"]) {
      rows.insert("selectors", { registered_entry_id: 500, type: "unix", value });
    }
    rows.insert("attested_node_entries", {
      spiffe_id: "spiffe://example.org/spire/agent/x509pop/renewing",
      data_type: "x509pop",
      serial_number: "11",
      expires_at: "2026-11-22 05:00:00+00:00",
      new_serial_number: "12",
      new_expires_at: "2026-11-22 08:00:00+02:00",
      can_reattest: 1,
      agent_version: "1.2.3",
    });
    rows.insert("node_resolver_map_entries", {
      spiffe_id: "spiffe://example.org/spire/agent/x509pop/renewing",
      type: "x509pop",
      value: "subject:cn:a",
    });
    rows.insert("attested_node_entries", {
      spiffe_id: "spiffe://example.org/spire/agent/x509pop/banned",
      data_type: "x509pop",
      serial_number: "",
      expires_at: "2026-11-22 05:00:00+00:00",
      new_serial_number: "",
      new_expires_at: null,
      can_reattest: 1,
      agent_version: "",
    });
  });
  const outcome = await run();
  expect(outcome).toMatchObject({
    schemaVersion: 25,
    codeVersion: "1.16.0-dev-unk",
    entries: 8,
    agents: 5,
    bannedAgents: 1,
    bundles: 3,
    federationRelationships: 3,
    joinTokens: 1,
    authorities: 2,
    hadLog: false,
    changed: [],
    aside: [],
  });
  expect(outcome.skipped).toEqual([{ kind: "join token", id: "", reason: "2 of them have expired" }]);

  await withStore(async (store) => {
    const [all, dns, fed, jti] = await store.entries.get(["all", "dns-entry", "fed-entry", "jti-entry"]);
    expect(all).toEqual({
      id: "all",
      spiffeId: makeSpiffeId(trustDomain, "/all"),
      parentId: recordedAgent,
      selectors: [
        { type: "unix", value: "uid:1" },
        { type: "unix", value: "gid:2" },
      ],
      x509SvidTtl: 61,
      jwtSvidTtl: 62,
      federatesWith: [],
      admin: true,
      downstream: true,
      expiresAt: 1_999_999_999,
      dnsNames: [],
      revisionNumber: 9,
      storeSvid: false,
      hint: "a hint",
      // Rounded, as stock SPIRE's API tells it.
      createdAt: Date.parse("2026-11-22T03:50:01Z") / 1000,
      disableX509SvidPrefetch: false,
      jwtSvidIncludeJti: false,
    });
    expect(dns?.dnsNames).toEqual(["a.test", "b.test"]);
    expect(fed?.federatesWith).toEqual([parseTrustDomain("other.test")]);
    expect(jti).toMatchObject({ disableX509SvidPrefetch: true, jwtSvidIncludeJti: true });
    expect((await store.entries.get(["my-entry-1"]))[0]?.revisionNumber).toBe(7);

    expect(await store.nodes.get(recordedAgent)).toMatchObject({
      attestationType: "join_token",
      serialNumber: "132948537902066374471152369489250345000",
      expiresAt: Date.parse("2026-11-22T04:46:35Z") / 1000,
      newSerialNumber: "",
      newExpiresAt: 0,
      canReattest: false,
      agentVersion: "1.16.0-dev-unk",
    });
    expect(await store.nodes.get(agentId(trustDomain, "/x509pop/renewing"))).toEqual({
      id: agentId(trustDomain, "/x509pop/renewing"),
      attestationType: "x509pop",
      serialNumber: "11",
      expiresAt: Date.parse("2026-11-22T05:00:00Z") / 1000,
      newSerialNumber: "12",
      newExpiresAt: Date.parse("2026-11-22T06:00:00Z") / 1000,
      canReattest: true,
      agentVersion: "1.2.3",
      selectors: [{ type: "x509pop", value: "subject:cn:a" }],
    });
    const banned = await store.nodes.list({ banned: true }, { size: 0, token: "" });
    expect(banned.items.map(({ id }) => id)).toEqual([agentId(trustDomain, "/x509pop/banned")]);

    const bundle = await store.bundles.get(trustDomain);
    expect(bundle?.sequenceNumber).toBeGreaterThan(0);
    expect(bundle?.jwtAuthorities.length).toBeGreaterThan(0);
    expect(await store.federation.get(parseTrustDomain("web2.test"))).toEqual({
      trustDomain: parseTrustDomain("web2.test"),
      bundleEndpointUrl: "https://web2.test/b",
      profile: { type: "https_spiffe", endpointSpiffeId: parseSpiffeId("spiffe://web2.test/e") },
    });
    expect((await store.joinTokens.take("0a407f1e-5ff6-4594-ac4b-b8df845fd902"))?.expiresAt).toBe(
      1_795_320_601,
    );
  });
});

test("the authorities go on with their keys, in a server that starts on it", async () => {
  makeStockDatabase(from, addSelectors);
  await run();
  expect(readFileSync(keysPath(), "utf8")).toBe(readFileSync(goldenKeys, "utf8"));
  const server = await startServer(
    {
      ...defaultServerSettings,
      trustDomain,
      bindAddress: "127.0.0.1",
      bindPort: 0,
      socketPath: socketPath(),
      dataDir: data,
      keyManager: { type: "disk", keysPath: keysPath() },
      dataStore: { type: "sqlite", path: databasePath() },
    },
    { clock, log: nullLogger },
  );
  const active = parseCertificate(server.activeAuthority() ?? new Uint8Array());
  const { x509Authorities, jwtAuthorities } = server.bundle();
  await server.close();
  expect(Buffer.from(active.subjectKeyId ?? []).toString("hex")).toBe(
    "a9875c4f4abef41aadc8fa7c7a1416f4b65f7090",
  );
  expect(x509Authorities).toHaveLength(1);
  // Recorded: the server's own, and four that downstream servers had published.
  expect(jwtAuthorities).toHaveLength(5);
});

test("without keys, authorities are named as not taken over", async () => {
  makeStockDatabase(from, addSelectors);
  const { authorities, skipped } = await run({}, {});
  expect(authorities).toBe(0);
  expect(skipped).toContainEqual({
    kind: "authorities",
    id: "journal 1",
    reason: "its keys were not given (-keys); the server makes new authorities",
  });
  expect(existsSync(keysPath())).toBe(false);
});

test("what can't be taken over is named with its reason, and the rest is taken", async () => {
  makeStockDatabase(from, (rows) => {
    addSelectors(rows);
    const entry = (id: number, fields: object) =>
      rows.insert("registered_entries", {
        id,
        created_at: date,
        entry_id: `bad-${id}`,
        spiffe_id: `spiffe://example.org/bad-${id}`,
        parent_id: recordedAgent,
        ttl: 0,
        expiry: 0,
        ...fields,
      });
    const selector = (id: number, value: string) =>
      rows.insert("selectors", { registered_entry_id: id, type: "unix", value });
    entry(600, {});
    selector(600, "uid:600");
    rows.insert("dns_names", { registered_entry_id: 600, value: "a b" });
    entry(601, {});
    entry(602, { spiffe_id: "spiffe://example.org/w3" });
    selector(602, "uid:6");
    entry(603, { parent_id: "spiffe://elsewhere.test/x" });
    selector(603, "uid:603");
    entry(604, {});
    selector(604, "uid:604");
    rows.insert("federated_registration_entries", { bundle_id: 1, registered_entry_id: 604 });
    entry(605, { additional_attributes: { base64: Buffer.from([0xff]).toString("base64") } });
    selector(605, "uid:605");
    rows.insert("bundles", { trust_domain: "spiffe://broken.test", data: { base64: "CgE=" } });
    rows.insert("attested_node_entries", {
      spiffe_id: "spiffe://example.org/no-agent",
      data_type: "x",
      serial_number: "1",
    });
    rows.insert("federated_trust_domains", {
      trust_domain: "acme.test",
      bundle_endpoint_url: "https://acme.test",
      bundle_endpoint_profile: "carrier pigeon",
      endpoint_spiffe_id: "",
    });
  });
  const { skipped, changed, entries } = await run();
  expect(entries).toBe(8);
  expect(skipped.map(({ kind, id, reason }) => `${kind} ${id}: ${reason}`)).toEqual([
    expect.stringMatching(/^bundle spiffe:\/\/broken\.test: /),
    'federation relationship acme.test: bundle endpoint profile "carrier pigeon" is unknown',
    expect.stringMatching(/^entry bad-600: invalid DNS name: .*"a b"/),
    "entry bad-601: selector list is empty",
    "entry bad-602: it says the same as entry my-entry-1",
    expect.stringMatching(
      /^entry bad-603: invalid parent ID: .* is not a member of trust domain "example.org"/,
    ),
    "entry bad-605: it is no message of SPIRE's",
    "agent spiffe://example.org/no-agent: it is not an agent's ID",
    "join token : 3 of them have expired",
  ]);
  expect(changed).toEqual([
    { kind: "entry", id: "bad-604", reason: "it does not federate with its own trust domain any more" },
  ]);
});

test("the log of a server that was killed is read as well, and the source is not touched", async () => {
  makeStockDatabase(from, addSelectors);
  const script = `
    const { Database } = require("bun:sqlite");
    const database = new Database(${JSON.stringify(from)});
    database.run("PRAGMA journal_mode = WAL");
    database.run("UPDATE registered_entries SET hint = 'in the log' WHERE entry_id = 'my-entry-1'");
    process.kill(process.pid, "SIGKILL");`;
  Bun.spawnSync([process.execPath, "-e", script]);
  const contents = () =>
    readdirSync(directory, { withFileTypes: true })
      .filter((found) => found.isFile())
      .map(({ name }) => [name, readFileSync(join(directory, name), "base64")]);
  const before = contents();
  expect(before.map(([name]) => name)).toContain("stock.sqlite3-wal");
  expect((await run()).hadLog).toBe(true);
  expect(contents()).toEqual(before);
  expect((await withStore((store) => store.entries.get(["my-entry-1"])))[0]?.hint).toBe("in the log");
});

test("older schemas lack columns, and are taken over", async () => {
  makeStockDatabase(from, (rows) => {
    addSelectors(rows);
    rows.run("ALTER TABLE registered_entries DROP COLUMN additional_attributes");
    rows.run("ALTER TABLE attested_node_entries DROP COLUMN agent_version");
    rows.run("UPDATE migrations SET version = 23, code_version = '1.12.0'");
  });
  expect(await run()).toMatchObject({ schemaVersion: 23, codeVersion: "1.12.0", entries: 7, agents: 3 });
});

describe("it is refused, and nothing is written,", () => {
  const refusal = async (job: Partial<ImportJob> = {}) => {
    const failure = await failureOf(run(job));
    expect(existsSync(databasePath())).toBe(false);
    expect(existsSync(keysPath())).toBe(false);
    return failure;
  };

  test("for a schema that isn't known, older or newer", async () => {
    makeStockDatabase(from, ({ run: sql }) => sql("UPDATE migrations SET version = 22"));
    expect((await refusal()).message).toMatch(
      /has schema version 22; schema versions 23 to 25 are taken over: let SPIRE 1\.8 or later bring it up to date/,
    );
    const database = new Database(from);
    database.run("UPDATE migrations SET version = 26");
    database.close(true);
    expect((await refusal()).message).toMatch(
      /has schema version 26; .*: it is newer than what this program knows/,
    );
  });

  test("for another trust domain, naming those that are there", async () => {
    makeStockDatabase(from, addSelectors);
    expect((await refusal({ trustDomain: parseTrustDomain("elsewhere.test") })).message).toMatch(
      /no bundle of trust domain "elsewhere\.test"; it has spiffe:\/\/example\.org, spiffe:\/\/other\.test/,
    );
  });

  test("for what is no such database", async () => {
    expect(await refusal()).toMatchObject({ code: "NOT_FOUND" });
    writeFileSync(from, "no database at all".repeat(100));
    expect(await refusal()).toMatchObject({ code: "INVALID_ARGUMENT" });
    rmSync(from);
    new Database(from, { create: true }).run("CREATE TABLE a (b)");
    expect((await refusal()).message).toContain("is no database of a stock SPIRE server");
  });

  test("for damaged keys", async () => {
    makeStockDatabase(from, addSelectors);
    const keys = join(directory, "keys.json");
    writeFileSync(keys, readFileSync(goldenKeys).subarray(0, 100));
    expect((await refusal({ fromKeys: keys })).message).toContain("is damaged: it is not complete JSON");
  });

  test.skipIf(process.platform !== "linux")("while a process has the source open", async () => {
    makeStockDatabase(from, addSelectors);
    const script = `
      const { Database } = require("bun:sqlite");
      const database = new Database(${JSON.stringify(from)});
      database.run("PRAGMA journal_mode = WAL");
      database.query("SELECT * FROM migrations").all();
      console.log("open");
      setInterval(() => {}, 1000);`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    await child.stdout.getReader().read();
    expect((await refusal()).message).toBe(
      `${from} is open in process ${child.pid}: stop the server that it is`,
    );
    child.kill("SIGKILL");
    await child.exited;
  });
});

test("data that are there are put aside only when asked", async () => {
  makeStockDatabase(from, addSelectors);
  await run();
  const before = readFileSync(databasePath());
  expect((await failureOf(run())).message).toMatch(
    /holds data already: name another data directory, or put it aside/,
  );
  expect(readFileSync(databasePath()).equals(before)).toBe(true);
  const { aside } = await run({ replace: true });
  expect(aside).toHaveLength(2);
  expect(readFileSync(aside[0] ?? "").equals(before)).toBe(true);
});

test("a dry run tells the same, and writes nothing", async () => {
  makeStockDatabase(from, addSelectors);
  const told = await run({ dryRun: true });
  expect(existsSync(data)).toBe(false);
  expect(told).toEqual(await run());
});
