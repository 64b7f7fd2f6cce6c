/** The machine's clock stepping past every expiry under programs that run: who can, recovers without a restart. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { decodeJwtSvid } from "../../src/core/jwt-svid.ts";
import { type Certificate, parseCertificate, splitDer } from "../../src/core/x509/certificate.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import {
  SpiffeWorkloadAPIService,
  type X509SVIDResponse,
} from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { program, type Running } from "../dev/program.ts";
import { failureOf } from "../server/failure.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { expectSigning, verifyBy } from "./soundness.ts";
import {
  agentPathOf,
  asWorkload,
  createToken,
  createWorld,
  firstUpdate,
  grant,
  openStream,
  pathsOf,
  type ServerProcess,
  stop,
  untilSaid,
  type World,
} from "./world.ts";

const minute = 60_000;
const hour = 60 * minute;
const timeout = 120_000;

let world: World;
let clock: FakeClock;
beforeEach(() => {
  world = createWorld();
  clock = createFakeClock(world.path("clock"));
});
afterEach(() => world.close());

const leafOf = ({ svids }: X509SVIDResponse): Certificate =>
  parseCertificate(svids[0]?.x509Svid ?? new Uint8Array());

/** Whether an update's SVID holds now and is verified by the bundle that comes with it. */
function isValid(update: X509SVIDResponse): boolean {
  const { notBefore, notAfter } = leafOf(update);
  const now = clock.now() / 1000;
  if (now < notBefore || now >= notAfter) return false;
  const [svid] = update.svids;
  const x509Authorities = splitDer(svid?.bundle ?? new Uint8Array()).map((asn1) => ({ asn1 }));
  verifyBy({ x509Authorities }, splitDer(svid?.x509Svid ?? new Uint8Array()), clock.now());
  return true;
}

async function expectJwt(workloadApi: Channel): Promise<void> {
  const request = { audience: ["a"], spiffeId: "" };
  const { svids } = await workloadApi.client(SpiffeWorkloadAPIService).fetchJwtsvid(request, asWorkload);
  const { exp, iat } = decodeJwtSvid(svids[0]?.svid ?? "").claims;
  expect(Number(exp) * 1000).toBeGreaterThan(clock.now());
  expect(Number(iat) * 1000).toBeLessThanOrEqual(clock.now());
}

describe("a development instance", () => {
  test.each([12, 48])(
    "gives open streams a valid SVID after a step of %d h, and tokens",
    async (hours) => {
      const { running, ready } = await world.dev([], { env: clock.env });
      const workloadApi = world.dial(ready.workload_api_socket);
      const stream = openStream(workloadApi);
      expect(isValid(await stream.next())).toBe(true);
      await expectJwt(workloadApi);

      clock.putForward(hours * hour);
      await stream.until(isValid);
      await expectJwt(workloadApi);
      // And again, from there.
      clock.putForward(hours * hour);
      await stream.until(isValid);
      await expectJwt(workloadApi);
      await expectSigning(world.dial(ready.server_socket), clock.now());
      await stop(running);
    },
    { timeout },
  );
});

describe("a server and an agent of their own", () => {
  let server: ServerProcess;
  let port: number;
  let local: Channel;
  const bundle = () => world.path("bundle.pem");

  beforeEach(async () => {
    server = world.server("server", { env: clock.env });
    port = await server.ready();
    local = world.dial(server.socket);
  });

  async function startAgent(name: string) {
    const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
    await Bun.write(bundle(), await shown.out.all());
    const token = await createToken(local);
    await grant(local, agentPathOf(token), "/web");
    const dataDir = world.path(name);
    const agent = world.agent({ port, bundle: bundle(), dataDir, token, env: clock.env });
    expect(pathsOf(await firstUpdate(world, agent))).toEqual(["/web"]);
    return { agent, workloadApi: world.dial(agent.socket) };
  }

  test(
    "renew everything in time when the step leaves them some",
    async () => {
      const { agent, workloadApi } = await startAgent("agent");
      const stream = openStream(workloadApi);
      let last = leafOf(await stream.next());
      // Each step is beyond the half of the agent's and the workload's hour.
      for (let step = 0; step < 5; step++) {
        clock.putForward(40 * minute);
        const { notAfter } = last;
        last = leafOf(await stream.until((update) => leafOf(update).notAfter > notAfter && isValid(update)));
      }
      await expectJwt(workloadApi);
      await stop(agent);
      expect(await agent.out.all()).toContain("Successfully rotated agent SVID");
      await stop(server);
    },
    { timeout },
  );

  test.each([12, 48])(
    "after a step of %d h the agent, whose token is used up, says so and ends; the server goes on",
    async (hours) => {
      const { agent, workloadApi } = await startAgent("agent");
      const stream = openStream(workloadApi);
      await stream.next();

      clock.putForward(hours * hour);
      const failure = await failureOf(stream.until(isValid));
      expect(failure.code).toBe("UNAVAILABLE");
      expect(await agent.ended).toBe(1);
      const log = await agent.out.all();
      expect(log).toContain("Agent can't go on: removing SVID and shutting down");
      expect(log).toContain("nothing left to attest with");

      // With another token it is back, on the same server: as soon as that has authorities that hold.
      if (hours > 24) await untilSaid(server.out, "X509 CA activated", "JWT key activated");
      const again = await startAgent("agent");
      const newStream = openStream(again.workloadApi);
      await newStream.until(isValid);
      await expectJwt(again.workloadApi);
      await expectSigning(local, clock.now());
      await stop(again.agent);
      await stop(server);
    },
    { timeout },
  );
});

describe("a server that was down", () => {
  const socket = () => world.path("api.sock");
  const start = () =>
    world.run([...program, "server", "run", "-config", world.path("server.conf")], clock.env);
  const started = async (server: Running) => {
    const line = await server.out.next((text) => /Starting Server APIs" address="127/.test(text));
    return Number(/127\.0\.0\.1:(\d+)/.exec(line)?.[1]);
  };

  /** Agents' SVIDs last for most of the authority's day, the server's own for an hour. */
  const configure = (port: number) =>
    Bun.write(
      world.path("server.conf"),
      `server {
        trust_domain = "example.org" data_dir = "${world.path("data")}" socket_path = "${socket()}"
        bind_address = "127.0.0.1" bind_port = ${port} agent_ttl = "20h"
      }
      plugins {
        DataStore "sql" { plugin_data {
          database_type = "sqlite3" connection_string = "${world.path("data/db.sqlite3")}"
        } }
        KeyManager "disk" { plugin_data { keys_path = "${world.path("data/keys.json")}" } }
        NodeAttestor "join_token" { plugin_data {} }
      }`,
    );

  async function startAgent(name: string, port: number) {
    const shown = world.spire("server", "bundle", "show", "-socketPath", socket());
    await Bun.write(world.path("bundle.pem"), await shown.out.all());
    const local = world.dial(socket());
    const token = await createToken(local);
    await grant(local, agentPathOf(token), "/web");
    const dataDir = world.path(name);
    const bundle = world.path("bundle.pem");
    return world.agent({ port, bundle, dataDir, token, env: clock.env });
  }

  test(
    "for longer than its certificate lasts starts again by itself, and its agent goes on with it",
    async () => {
      await configure(0);
      const first = start();
      const port = await started(first);
      await configure(port);
      const agent = await startAgent("agent", port);
      expect(isValid(await firstUpdate(world, agent))).toBe(true);
      const stream = openStream(world.dial(agent.socket));
      await stop(first);

      clock.putForward(9 * hour);
      const again = start();
      expect(await started(again)).toBe(port);
      await stream.until(isValid);
      await expectSigning(world.dial(socket()), clock.now());
      await stop(agent);
      await stop(again);
    },
    { timeout },
  );

  test(
    "for longer than its authorities last starts again by itself, and serves agents that attest anew",
    async () => {
      await configure(0);
      const first = start();
      await started(first);
      await stop(first);

      clock.putForward(72 * hour);
      const again = start();
      const port = await started(again);
      const health = world.spire("server", "healthcheck", "-socketPath", socket());
      expect(await health.ended).toBe(0);
      const agent = await startAgent("agent", port);
      expect(isValid(await firstUpdate(world, agent))).toBe(true);
      await expectSigning(world.dial(socket()), clock.now());
      await stop(agent);
      await stop(again);
    },
    { timeout },
  );
});
