/** A backup of a server's data, and its restore: what comes back, what doesn't, and what is refused. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock } from "../../core/clock.ts";
import { draftEntry } from "../../core/entry.ts";
import { SpireError } from "../../core/errors.ts";
import { nullLogger } from "../../core/log.ts";
import type { AttestedNode } from "../../core/node.ts";
import { agentId, makeSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import type { Store } from "../../plugins/datastores/index.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { openArchive } from "../../server/backup/archive.ts";
import { defaultServerSettings, type ServerSettings } from "../server/settings.ts";
import { startServer } from "../server.ts";
import { type BackupJob, makeBackup } from "./make.ts";
import { type RestoreJob, restoreBackup } from "./restore.ts";

const trustDomain = parseTrustDomain("example.org");
const everything = { size: 0, token: "" };

let directory: string;
let data: string;
let clock: ReturnType<typeof createManualClock>;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-backup-test-"));
  data = join(directory, "data");
  mkdirSync(data);
  clock = createManualClock(Date.parse("2026-11-22T08:00:00Z"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const databasePath = () => join(data, "datastore.sqlite3");
const keysPath = () => join(data, "keys.json");
const file = (name = "a.backup") => join(directory, name);

const settings = (): ServerSettings => ({
  ...defaultServerSettings,
  trustDomain,
  bindAddress: "127.0.0.1",
  bindPort: 0,
  socketPath: join(directory, "private", "api.sock"),
  dataDir: data,
  keyManager: { type: "disk", keysPath: keysPath() },
  dataStore: { type: "sqlite", path: databasePath() },
});
const start = () => startServer(settings(), { clock, log: nullLogger });

/** The active X.509 authority and the bundle of a server that starts on the data and stops again. */
async function authorityAfterStart(): Promise<{ active: string; roots: number; sequence: number }> {
  const server = await start();
  const { x509Authorities, sequenceNumber } = server.bundle();
  const active = Buffer.from(server.activeAuthority() ?? []).toString("base64");
  await server.close();
  return { active, roots: x509Authorities.length, sequence: sequenceNumber };
}

/** As above, 21 of the 24 hours of an authority later, once the next one signs. */
async function authorityAfterRotation(): ReturnType<typeof authorityAfterStart> {
  const { active: before } = await authorityAfterStart();
  clock = createManualClock(clock.now() + 21 * 3_600_000);
  const server = await start();
  const active = () => Buffer.from(server.activeAuthority() ?? []).toString("base64");
  while (active() === before) await new Promise((resolve) => setImmediate(resolve));
  const { x509Authorities, sequenceNumber } = server.bundle();
  await server.close();
  return { active: active(), roots: x509Authorities.length, sequence: sequenceNumber };
}

const backUp = (job: Partial<BackupJob> = {}) =>
  makeBackup({ trustDomain, databasePath: databasePath(), target: file(), replace: false, ...job }, clock);

const restore = (job: Partial<RestoreJob> = {}) =>
  restoreBackup(
    {
      trustDomain,
      databasePath: databasePath(),
      socketPath: settings().socketPath,
      keysPath: keysPath(),
      file: file(),
      withKeys: false,
      bans: [],
      dryRun: false,
      ...job,
    },
    clock,
  );

async function withStore<T>(work: (store: Store) => Promise<T>, path = databasePath()): Promise<T> {
  const store = await createSqliteStore({ path, clock });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

const agent = (name: string) => agentId(trustDomain, `/test/${name}`);
const node = (name: string, fields: Partial<AttestedNode> = {}): AttestedNode => ({
  id: agent(name),
  attestationType: "test",
  serialNumber: `1${name.length}`,
  expiresAt: 2_000_000_000,
  newSerialNumber: "",
  newExpiresAt: 0,
  canReattest: false,
  agentVersion: "",
  selectors: [],
  ...fields,
});
const entry = (id: string) =>
  draftEntry({
    id,
    spiffeId: makeSpiffeId(trustDomain, `/${id}`),
    parentId: agent("a"),
    selectors: [{ type: "unix", value: id }],
  });

const failureOf = (work: Promise<unknown>): Promise<SpireError> =>
  work.then(
    () => Promise.reject(new Error("it did not fail")),
    (error) => SpireError.from(error),
  );
/** Names and contents. */
const contentOf = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map(({ name, parentPath }) => [name, readFileSync(join(parentPath, name), "base64")])
    .sort();

describe("a backup", () => {
  test("of a running server holds what is committed, and no keys unless asked", async () => {
    const server = await start();
    await server.registry.createEntries([entry("a"), entry("b")]);
    const manifest = await backUp();
    expect(manifest.counts).toMatchObject({ entries: 2, agents: 0, bundles: 1 });
    expect(manifest.keys).toBeUndefined();
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory).filter((name) => name.startsWith("."))).toEqual([]);

    await backUp({ target: file("k.backup"), keysPath: keysPath() });
    const archive = await openArchive(file("k.backup"));
    expect((await archive.readKeys())?.equals(readFileSync(keysPath()))).toBe(true);
    await archive.close();
    await server.registry.createEntries([entry("c")]);
    await server.close();
    expect(await withStore((store) => store.entries.count({}))).toBe(3);
  });

  test("of a stopped server leaves its data as they are", async () => {
    await (await start()).close();
    const before = contentOf(data).filter(([name]) => !/-(wal|shm)$/.test(String(name)));
    await backUp();
    expect(contentOf(data).filter(([name]) => !/-(wal|shm)$/.test(String(name)))).toEqual(before);
    await authorityAfterStart();
  });

  test("takes no file's place unless told to", async () => {
    await (await start()).close();
    writeFileSync(file(), "mine");
    expect(await failureOf(backUp())).toMatchObject({ code: "ALREADY_EXISTS" });
    expect(readFileSync(file(), "utf8")).toBe("mine");
    await backUp({ replace: true });
    await (await openArchive(file())).close();
  });

  test("has no name before it is proven: not with keys of another server", async () => {
    await (await start()).close();
    const other = join(directory, "other");
    mkdirSync(other);
    const second = await startServer(
      {
        ...settings(),
        dataDir: other,
        keyManager: { type: "disk", keysPath: join(other, "keys.json") },
        dataStore: { type: "sqlite", path: join(other, "datastore.sqlite3") },
      },
      { clock, log: nullLogger },
    );
    await second.close();
    const failure = await failureOf(backUp({ keysPath: join(other, "keys.json") }));
    expect(failure.message).toContain("its keys are not those of the authorities in its database");
    expect(existsSync(file())).toBe(false);
  });

  test("of damaged, missing or another's data is refused", async () => {
    expect(await failureOf(backUp())).toMatchObject({ code: "NOT_FOUND" });
    await withStore((store) =>
      store.nodes.put({ ...node("a"), id: agentId(parseTrustDomain("other.test"), "/x/y") }),
    );
    expect((await failureOf(backUp())).message).toContain('belongs to trust domain "other.test"');
    writeFileSync(databasePath(), Buffer.alloc(8_192, 7));
    expect(await failureOf(backUp())).toMatchObject({ code: "DATA_LOSS" });
    expect(existsSync(file())).toBe(false);
    expect(readdirSync(directory).filter((name) => name.startsWith("."))).toEqual([]);
  });
});

describe("a restore", () => {
  test("brings entries and agents back, voids tokens, and names where the old data are", async () => {
    await (await start()).close();
    await withStore(async (store) => {
      await store.entries.create([entry("kept"), entry("deleted")], 7);
      await store.joinTokens.create({ token: "secret-token", expiresAt: 2_000_000_000 });
      for (const name of ["a", "banned", "evicted"]) await store.nodes.put(node(name));
    });
    await backUp();
    await withStore(async (store) => {
      await store.entries.delete(["deleted"]);
      await store.entries.create([entry("new")], 8);
      await store.entries.update([{ id: "kept", fields: { hint: "changed" } }]);
      await store.nodes.update(agent("banned"), { serialNumber: "" });
      await store.nodes.delete(agent("evicted"));
      await store.nodes.put(node("newcomer"));
      await store.nodes.put(node("banned-newcomer", { serialNumber: "" }));
    });

    const dry = await restore({ dryRun: true });
    expect(dry.undone).toEqual({
      bans: [agent("banned"), agent("banned-newcomer")],
      bansBack: [],
      evictions: [agent("evicted")],
      deletedEntries: [{ id: "deleted", spiffeId: `spiffe://${trustDomain}/deleted` }],
      deletedRelationships: [],
      newAgents: [agent("newcomer")],
      newEntries: [{ id: "new", spiffeId: `spiffe://${trustDomain}/new` }],
      changedEntries: ["kept"],
    });
    expect(await withStore((store) => store.entries.count({}))).toBe(2);

    const { undone, aside, voidedTokens } = await restore();
    expect(undone).toEqual(dry.undone);
    expect(voidedTokens).toBe(1);
    expect(aside).toEqual([`${databasePath()}.before-20261122T080000Z`]);
    await withStore(async (store) => {
      const { items } = await store.entries.list({}, everything);
      expect(items.map(({ id }) => id).sort()).toEqual(["deleted", "kept"]);
      expect(items.find(({ id }) => id === "kept")?.hint).toBe("");
      expect(await store.joinTokens.take("secret-token")).toBeUndefined();
      const { items: nodes } = await store.nodes.list({}, everything);
      expect(nodes.map(({ id }) => id).sort()).toEqual([agent("a"), agent("banned"), agent("evicted")]);
      expect(nodes.every(({ serialNumber }) => serialNumber !== "")).toBe(true);
    });
    expect(await withStore((store) => store.entries.count({}), aside[0])).toBe(2);
  });

  test("keeps the bans that it is given, also of agents that it does not know", async () => {
    await (await start()).close();
    await withStore((store) => store.nodes.put(node("a")));
    await backUp();
    const { unknownBans, undone } = await restore({ bans: [agent("a"), agent("unknown")] });
    expect(unknownBans).toEqual([agent("unknown")]);
    expect(undone?.bans).toEqual([]);
    expect(undone?.bansBack).toEqual([agent("a")]);
    const banned = await withStore((store) => store.nodes.list({ banned: true }, everything));
    expect(banned.items.map(({ id, attestationType }) => [id, attestationType]).sort()).toEqual([
      [agent("a"), "test"],
      [agent("unknown"), "test"],
    ]);
  });

  test("leaves agents the SVIDs that they renewed since, and entries revisions that no agent has seen", async () => {
    await (await start()).close();
    await withStore(async (store) => {
      await store.entries.create([entry("e")], 7);
      await store.nodes.put(node("a", { serialNumber: "1" }));
    });
    await backUp();
    await withStore(async (store) => {
      await store.nodes.update(agent("a"), { serialNumber: "2", newSerialNumber: "3", newExpiresAt: 9 });
      for (const hint of ["x", "y"]) await store.entries.update([{ id: "e", fields: { hint } }]);
    });
    await restore();
    await withStore(async (store) => {
      expect(await store.nodes.get(agent("a"))).toMatchObject({ serialNumber: "2", newSerialNumber: "3" });
      expect((await store.entries.get(["e"]))[0]).toMatchObject({ hint: "", revisionNumber: 3 });
    });
  });

  test("leaves the authorities as they are, whatever happened to them since", async () => {
    const first = await start();
    await first.close();
    await backUp();
    const rotated = await authorityAfterRotation();
    expect(rotated.roots).toBe(2);
    const { authorities } = await restore();
    expect(authorities).toBe("kept");
    const { active, roots } = rotated;
    expect(await authorityAfterStart()).toMatchObject({ active, roots });
  });

  test("with keys brings back the authorities of the backup, under a later sequence number", async () => {
    const before = await authorityAfterStart();
    await backUp({ keysPath: keysPath() });
    const rotated = await authorityAfterRotation();
    const { authorities, keysRestored, aside } = await restore({ withKeys: true });
    expect({ authorities, keysRestored }).toEqual({ authorities: "restored", keysRestored: true });
    expect(aside).toHaveLength(2);
    clock = createManualClock(Date.parse("2026-11-22T09:00:00Z"));
    const after = await authorityAfterStart();
    expect(after.active).toBe(before.active);
    expect(after.sequence).toBeGreaterThan(rotated.sequence);
  });

  test("on a new machine takes the keys as well; without any, it says that authorities will be new", async () => {
    const before = await authorityAfterStart();
    await backUp({ keysPath: keysPath() });
    await backUp({ target: file("no-keys.backup") });
    const whole = join(directory, "whole");
    cpSync(data, whole, { recursive: true });
    rmSync(data, { recursive: true });
    expect(await restore()).toMatchObject({ authorities: "restored", keysRestored: true, aside: [] });
    expect(await authorityAfterStart()).toEqual(before);
    rmSync(data, { recursive: true });
    const outcome = await restore({ file: file("no-keys.backup") });
    expect(outcome).toMatchObject({ authorities: "new", keysRestored: false });
    expect(outcome.undone).toBeUndefined();
    expect((await authorityAfterStart()).active).not.toBe(before.active);
  });

  test("in the place of a damaged database goes on with the keys, and says that it could not compare", async () => {
    const before = await authorityAfterStart();
    await withStore((store) => store.nodes.put(node("a")));
    await backUp();
    const bytes = readFileSync(databasePath());
    bytes.fill(0xff, 4_096);
    writeFileSync(databasePath(), bytes);
    const outcome = await restore();
    expect(outcome.presentProblem).toContain("malformed");
    expect(outcome.undone).toBeUndefined();
    expect(outcome.authorities).toBe("restored");
    expect(await authorityAfterStart()).toEqual(before);
    expect(await withStore((store) => store.nodes.count({}))).toBe(1);
  });

  test("does not rely on a database of which a byte has flipped", async () => {
    await (await start()).close();
    await withStore((store) => store.nodes.put(node("a", { serialNumber: "12345678" })));
    await backUp();
    await withStore((store) => store.nodes.update(agent("a"), { serialNumber: "77777777" }));
    const bytes = readFileSync(databasePath());
    bytes.write("X", bytes.indexOf("77777777"));
    writeFileSync(databasePath(), bytes);
    const outcome = await restore();
    expect(outcome.presentProblem).toContain("not as the server left it");
    expect(outcome.undone?.bans).toEqual([]);
    expect((await withStore((store) => store.nodes.get(agent("a"))))?.serialNumber).toBe("12345678");
  });

  describe("is refused, and changes nothing,", () => {
    const refusal = async (job: Partial<RestoreJob> = {}) => {
      const before = contentOf(data);
      const failure = await failureOf(restore(job));
      expect(contentOf(data)).toEqual(before);
      return failure;
    };

    test("while a server answers at the socket", async () => {
      await (await start()).close();
      await backUp();
      const { socketPath } = settings();
      const listener = createServer().listen(socketPath);
      await new Promise((resolve) => listener.once("listening", resolve));
      expect((await refusal()).message).toBe(`a server is running at ${socketPath}: stop it first`);
      await new Promise((resolve) => listener.close(resolve));
    });

    test.skipIf(process.platform !== "linux")("while another process has the database open", async () => {
      await (await start()).close();
      await backUp();
      const script = `
        const { Database } = require("bun:sqlite");
        const database = new Database(${JSON.stringify(databasePath())});
        database.run("PRAGMA journal_mode = WAL");
        database.query("SELECT count(*) FROM nodes").all();
        console.log("open");
        setInterval(() => {}, 1000);`;
      const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
      const opened = child.stdout.getReader();
      await opened.read();
      const { message } = await failureOf(restore());
      expect(message).toBe(`${databasePath()} is open in process ${child.pid}: stop the server that it is`);
      child.kill("SIGKILL");
      await child.exited;
      await restore();
    });

    test("with a damaged file, of another trust domain, or of a newer program", async () => {
      await (await start()).close();
      await backUp();
      const other = parseTrustDomain("other.test");
      expect((await refusal({ trustDomain: other })).message).toContain(
        'is of trust domain "example.org", and this server is for "other.test"',
      );
      const whole = readFileSync(file());
      writeFileSync(file(), whole.subarray(0, -1));
      expect(await refusal()).toMatchObject({ code: "DATA_LOSS" });
    });

    test("with keys that are not in the backup", async () => {
      await (await start()).close();
      await backUp();
      expect((await refusal({ withKeys: true })).message).toContain("holds no CA keys");
    });

    test("on the data of another trust domain", async () => {
      await (await start()).close();
      await backUp();
      rmSync(data, { recursive: true });
      mkdirSync(data);
      await withStore((store) =>
        store.nodes.put({ ...node("a"), id: agentId(parseTrustDomain("other.test"), "/x/y") }),
      );
      expect((await refusal()).message).toContain('belongs to trust domain "other.test"');
    });

    test("with a damaged key file that is to stay, naming -withKeys", async () => {
      await (await start()).close();
      await backUp();
      writeFileSync(keysPath(), '{"keys":');
      expect((await refusal()).message).toMatch(
        /if the backup holds keys, add -withKeys: key file .* is damaged/,
      );
    });
  });
});
