/** kill -9 at each step of a first start: the next start works, and what it finds is whole. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { atEachPoint, type WritingCall, writingCalls } from "./crash-points.ts";
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
  type World,
} from "./world.ts";

const timeout = 180_000;
/** Calls that a program never makes are no points to die at. */
const has = (killed: number, call: WritingCall, made: readonly WritingCall[]) =>
  expect({ call, isMade: killed > 0 }).toEqual({ call, isMade: made.includes(call) });

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

describe("the first start of a server", () => {
  test.each([...writingCalls])(
    "killed at each %s, is begun again by the next one",
    async (call) => {
      const killed = await atEachPoint(call, async (wrap, n) => {
        const dying = world.server(`server-${n}`, { wrap });
        const survived = await cameTo(dying.ready());
        await kill(dying);

        const next = world.server(`server-${n}`);
        await next.ready();
        const local = world.dial(next.socket);
        const chain = await expectSigning(local);
        await stop(next);
        expectWhole(next.dataDir);

        // What it signed then is still believed after one more restart: nothing was made anew.
        const third = world.server(`server-${n}`);
        await third.ready();
        verifyBy(await fetchBundle(world.dial(third.socket)), chain);
        await stop(third);
        return survived;
      });
      has(killed, call, ["mkdir", "pwrite64", "ftruncate", "fsync", "rename", "link", "unlink"]);
    },
    { timeout },
  );
});

describe("the first start of a development instance with a data directory", () => {
  test.each([...writingCalls])(
    "killed at each %s, is begun again by the next one",
    async (call) => {
      await atEachPoint(call, async (wrap, n) => {
        const args = ["--data-dir", `state-${n}`, "--name", `n${n}`];
        const dying = world.dev(args, { wrap });
        const survived = await cameTo(dying);
        if (survived) await kill((await dying).running);

        const { running, ready } = await world.dev(args);
        const fetched = world.spire(
          "agent",
          "api",
          "fetch",
          "x509",
          "-socketPath",
          ready.workload_api_socket,
        );
        expect(await fetched.ended).toBe(0);
        await stop(running);
        expectWhole(world.path(`state-${n}`));
        return survived;
      });
    },
    { timeout },
  );
});

describe("the first start of an agent", () => {
  test.each([...writingCalls])(
    "killed at each %s, leaves a token that works or an agent that goes on",
    async (call) => {
      const server = world.server();
      const port = await server.ready();
      const local = world.dial(server.socket);
      const bundle = world.path("bundle.pem");
      const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
      await Bun.write(bundle, await shown.out.all());

      await atEachPoint(call, async (wrap, n) => {
        const token = await createToken(local);
        await grant(local, agentPathOf(token), "/web");
        const launch = { port, bundle, dataDir: world.path(`agent-${n}`) };
        const dying = world.agent({ ...launch, token, wrap });
        const survived = await cameTo(firstUpdate(world, dying));
        await kill(dying);

        const next = world.agent({ ...launch, token });
        if (await cameTo(firstUpdate(world, next))) {
          await stop(next);
        } else {
          // The server had judged the token, and the agent died before it could keep the answer.
          expect(await next.ended).toBe(1);
          expect(await next.out.all()).toContain("join token does not exist or has already been used");
          expect(survived).toBe(false);
          const other = await createToken(local);
          await grant(local, agentPathOf(other), "/web");
          const third = world.agent({ ...launch, token: other });
          expect(pathsOf(await firstUpdate(world, third))).toEqual(["/web"]);
          await stop(third);
        }
        expectWhole(launch.dataDir);

        // Kept by now: no token is needed any more.
        const last = world.agent(launch);
        expect(pathsOf(await firstUpdate(world, last))).toEqual(["/web"]);
        await stop(last);
        expect(await last.out.all()).toContain("SVID loaded");
        return survived;
      });
      await stop(server);
    },
    { timeout },
  );
});
