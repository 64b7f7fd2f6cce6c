/** kill -9 at each step of a rotation: of the server's authorities, and of an agent's SVID and key. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { atEachPoint, writingCalls } from "./crash-points.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { expectSigning, expectWhole, fetchBundle, verifyBy } from "./soundness.ts";
import {
  agentPathOf,
  cameTo,
  createToken,
  createWorld,
  firstUpdate,
  grant,
  kill,
  pathsOf,
  stop,
  untilSaid,
  type World,
} from "./world.ts";

const minute = 60_000;
const hour = 60 * minute;
const timeout = 180_000;

let world: World;
let clock: FakeClock;
beforeEach(() => {
  world = createWorld();
  clock = createFakeClock(world.path("clock"));
});
afterEach(() => world.close());

describe("the authorities of a server", () => {
  /** Of a day: prepared for 12 hours, in force for the last 4. */
  const rotated = ["X509 CA prepared", "JWT key prepared", "X509 CA activated", "JWT key activated"];

  test.each(writingCalls.map((call) => [call]))(
    "survive kill -9 at each %s of their rotation",
    async (call) => {
      const first = world.server("server", { env: clock.env });
      await first.ready();
      const earlier = await expectSigning(world.dial(first.socket));
      await stop(first);
      clock.putForward(21 * hour);

      await atEachPoint(call, async (wrap, n) => {
        const name = `server-${n}`;
        cpSync(first.dataDir, world.path(name), { recursive: true });
        const dying = world.server(name, { wrap, env: clock.env });
        const survived = await cameTo(untilSaid(dying.out, ...rotated));
        await kill(dying);

        const next = world.server(name, { env: clock.env });
        await next.ready();
        const local = world.dial(next.socket);
        const chain = await expectSigning(local, clock.now());
        const bundle = await fetchBundle(local);
        // The authority of before holds for three hours more.
        verifyBy(bundle, earlier, clock.now() - 21 * hour);
        await stop(next);
        expectWhole(next.dataDir);

        const third = world.server(name, { env: clock.env });
        await third.ready();
        const last = world.dial(third.socket);
        verifyBy(await fetchBundle(last), chain, clock.now());
        await expectSigning(last, clock.now());
        await stop(third);
        return survived;
      });
    },
    { timeout },
  );
});

describe("the SVID of an agent", () => {
  test.each(["fsync", "rename", "unlink"] as const)(
    "survives kill -9 at each %s of its renewal",
    async (call) => {
      const server = world.server("server", { env: clock.env });
      const port = await server.ready();
      const local = world.dial(server.socket);
      const bundle = world.path("bundle.pem");
      const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
      await Bun.write(bundle, await shown.out.all());
      const token = await createToken(local);
      await grant(local, agentPathOf(token), "/web");
      const launch = { port, bundle, dataDir: world.path("agent"), env: clock.env };
      const first = world.agent({ ...launch, token });
      await firstUpdate(world, first);
      await stop(first);

      const killed = await atEachPoint(call, async (wrap) => {
        // More than half of the hour that it has.
        clock.putForward(40 * minute);
        const dying = world.agent({ ...launch, wrap });
        const survived = await cameTo(firstUpdate(world, dying));
        await kill(dying);

        const next = world.agent(launch);
        expect(pathsOf(await firstUpdate(world, next))).toEqual(["/web"]);
        await stop(next);
        const log = await next.out.all();
        expect(log).toContain("SVID loaded");
        expect(log).not.toContain("Node attestation");
        expectWhole(launch.dataDir);
        return survived;
      });
      if (call !== "unlink") expect(killed).toBeGreaterThan(0);
      await stop(server);
    },
    { timeout },
  );
});
