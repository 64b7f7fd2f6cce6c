/** kill -9 at each step of a restore, an import and a backup: what is there afterwards is all old or all new. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { goldenKeys, makeStockDatabase } from "../backup/stock-database.ts";
import { finish, program } from "../dev/program.ts";
import { atEachPoint, writingCalls } from "./crash-points.ts";
import { expectSigning, expectWhole } from "./soundness.ts";
import { createToken, createWorld, exampleOrg, grant, listEntries, stop, type World } from "./world.ts";

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

async function entriesOf(name: string): Promise<{ paths: readonly string[]; next: () => Promise<void> }> {
  const server = world.server(name);
  await server.ready();
  const local = world.dial(server.socket);
  const paths = (await listEntries(local)).map(({ spiffeId }) => spiffeId?.path ?? "").sort();
  await expectSigning(local);
  return { paths, next: () => stop(server) };
}

describe("kill -9 at each", () => {
  test.each(writingCalls.map((call) => [call]))(
    "%s of a restore leaves the old data or the new, with keys that fit",
    async (call) => {
      const first = world.server("first");
      await first.ready();
      const local = world.dial(first.socket);
      await grant(local, "/spire/agent/x", "/old");
      await createToken(local);
      const backup = world.path("with-keys.backup");
      const made = world.spire("server", "backup", backup, "-withKeys", ...dataFlags(first.dataDir));
      expect((await finish(made)).err).toBe("");
      await grant(local, "/spire/agent/x", "/new");
      await stop(first);

      let restored = 0;
      await atEachPoint(call, async (wrap, n) => {
        const name = `server-${call}-${n}`;
        const dataDir = world.path(name);
        cpSync(first.dataDir, dataDir, { recursive: true });
        const restore = ["server", "restore", backup, "-withKeys", ...dataFlags(dataDir)];
        const { code } = await finish(world.run([...wrap, ...program, ...restore]));

        const { paths, next } = await entriesOf(name);
        expect([["/new", "/old"], ["/old"]]).toContainEqual([...paths]);
        if (paths.length === 1) restored += 1;
        if (code === 0) expect(paths).toEqual(["/old"]);
        await next();
        expectWhole(dataDir);
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
        const { paths, next } = await entriesOf(`import-${call}-${n}`);
        expect([0, 3]).toContain(paths.length);
        if (code === 0) expect(paths).toHaveLength(3);
        await next();
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
