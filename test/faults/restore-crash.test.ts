/** kill -9 at each step of a restore, an import and a backup: what is there afterwards is all old or all new. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { goldenKeys, makeStockDatabase } from "../backup/stock-database.ts";
import { finish, program } from "../dev/program.ts";
import { atEachPoint, writingCalls } from "./crash-points.ts";
import { expectSigning, expectWhole, fetchBundle } from "./soundness.ts";
import {
  createToken,
  createWorld,
  exampleOrg,
  grant,
  listEntries,
  type ServerProcess,
  stop,
  type World,
} from "./world.ts";

const timeout = 180_000;

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

const dataFlags = (dataDir: string) => [
  ...["-trustDomain", exampleOrg, "-dataDir", dataDir],
  ...["-socketPath", join(dataDir, "..", "none.sock")],
];

interface Found {
  /** Of the entries' SPIFFE IDs. */
  readonly paths: readonly string[];
  /** X.509 roots. */
  readonly roots: readonly string[];
}

/** What a server that is started on the data has; it signs with its authorities, and stops. */
async function startedOn(name: string): Promise<Found> {
  const server = world.server(name);
  await server.ready();
  const found = await look(server);
  await stop(server);
  expectWhole(server.dataDir);
  return found;
}

async function look(server: ServerProcess): Promise<Found> {
  const local = world.dial(server.socket);
  await expectSigning(local);
  const { x509Authorities } = await fetchBundle(local);
  return {
    paths: (await listEntries(local)).map(({ spiffeId }) => spiffeId?.path ?? "").sort(),
    roots: x509Authorities.map(({ asn1 }) => Buffer.from(asn1).toString("base64")),
  };
}

describe("kill -9 at each", () => {
  test.each(writingCalls.map((call) => [call]))(
    "%s of a restore leaves the old data or the new, with keys that fit",
    async (call) => {
      const backedUp = world.server("backed-up");
      await backedUp.ready();
      await grant(world.dial(backedUp.socket), "/spire/agent/x", "/old");
      await createToken(world.dial(backedUp.socket));
      const backup = world.path("with-keys.backup");
      const made = world.spire("server", "backup", backup, "-withKeys", ...dataFlags(backedUp.dataDir));
      expect((await finish(made)).err).toBe("");
      const old = await look(backedUp);
      await stop(backedUp);
      // Of the same trust domain, with authorities and keys of its own.
      const present = world.server("present");
      await present.ready();
      await grant(world.dial(present.socket), "/spire/agent/x", "/new");
      const now = await look(present);
      await stop(present);

      let restored = 0;
      await atEachPoint(call, async (wrap, n) => {
        const name = `server-${call}-${n}`;
        const dataDir = world.path(name);
        cpSync(present.dataDir, dataDir, { recursive: true });
        const restore = ["server", "restore", backup, "-withKeys", ...dataFlags(dataDir)];
        const { code } = await finish(world.run([...wrap, ...program, ...restore]));

        const found = await startedOn(name);
        expect([old, now]).toContainEqual(found);
        if (code === 0) expect(found).toEqual(old);
        if (found.paths.includes("/old")) restored += 1;
        expect(readdirSync(dataDir).filter((file) => /^\.|\.replacing$/.test(file))).toEqual([]);
        return code === 0;
      });
      expect(restored).toBeGreaterThan(0);
    },
    { timeout },
  );

  test.each(["fsync", "rename", "unlink"] as const)(
    "%s of an import leaves nothing, or all of it",
    async (call) => {
      const stock = world.path("stock.sqlite3");
      makeStockDatabase(stock);
      let n = 0;
      const killed = await atEachPoint(call, async (wrap) => {
        n += 1;
        const dataDir = world.path(`import-${call}-${n}`);
        const args = ["server", "import", "-fromSpire", stock, "-keys", goldenKeys, ...dataFlags(dataDir)];
        const { code } = await finish(world.run([...wrap, ...program, ...args]));
        const { paths } = await startedOn(`import-${call}-${n}`);
        expect([0, 3]).toContain(paths.length);
        if (code === 0) expect(paths).toHaveLength(3);
        return code === 0;
      });
      expect(killed).toBeGreaterThan(0);
    },
    { timeout },
  );

  test.each(["fsync", "rename", "link", "unlink"] as const)(
    "%s of a backup leaves none, or one that is proven",
    async (call) => {
      const server = world.server("server");
      await server.ready();
      await stop(server);
      const backups = world.path("backups");
      mkdirSync(backups);
      await atEachPoint(call, async (wrap, n) => {
        const target = join(backups, `${n}.backup`);
        const args = ["server", "backup", target, ...dataFlags(server.dataDir)];
        const { code } = await finish(world.run([...wrap, ...program, ...args]));
        if (code === 0) expect(existsSync(target)).toBe(true);
        if (existsSync(target)) {
          const dry = world.spire("server", "restore", target, "-dryRun", ...dataFlags(server.dataDir));
          expect((await finish(dry)).code).toBe(0);
        }
        return code === 0;
      });
      // What the killed ones left went with the next.
      expect(readdirSync(backups).filter((name) => name.startsWith("."))).toEqual([]);
    },
    { timeout },
  );
});
