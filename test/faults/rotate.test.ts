/** kill -9 while authorities are replaced: at each write of the server, and in each stage that waits for agents. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { cpSync } from "node:fs";
import { systemClock } from "../../src/core/clock.ts";
import { generateKey } from "../../src/core/keys.ts";
import { serverId } from "../../src/core/spiffe-id.ts";
import { emptyBundle } from "../../src/core/trust-bundle.ts";
import { authorityId, parseCertificate, splitDer } from "../../src/core/x509/certificate.ts";
import { dialTls } from "../../src/rpc/dial.ts";
import type { X509SVIDResponse } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { RotationService, type RotationStatus } from "../../src/rpc/gen/spire/server/rotation/v1/rotation.ts";
import { attestWith, csrOf } from "../server/running.ts";
import { atEachPoint } from "./crash-points.ts";
import { expectSigning, expectWhole, fetchBundle } from "./soundness.ts";
import {
  type AgentProcess,
  agentIdOf,
  agentPathOf,
  cameTo,
  createToken,
  createWorld,
  exampleOrg,
  grant,
  kill,
  openStream,
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

const rotationOf = (server: ServerProcess) => world.dial(server.socket).client(RotationService);

/** Follows the rotation to its end, or until a status fits. @throws Error when the server ends before. */
async function until(
  server: ServerProcess,
  fits: (status: RotationStatus) => boolean = () => false,
): Promise<RotationStatus> {
  let last: RotationStatus | undefined;
  const stopping = new AbortController();
  try {
    for await (const status of rotationOf(server).watchRotation({}, { signal: stopping.signal })) {
      last = status;
      if (fits(status)) break;
    }
  } finally {
    stopping.abort();
  }
  if (!last) throw new Error("nothing was said of the rotation");
  return last;
}

const kinds = ["x509", "jwt"];
const request = { kinds, emergency: false, ignoreMinted: true, ignoreDownstream: false };

async function start(server: ServerProcess): Promise<void> {
  await rotationOf(server).startRotation(request);
}

async function rootsOf(server: ServerProcess): Promise<readonly string[]> {
  const { x509Authorities } = await fetchBundle(world.dial(server.socket));
  return x509Authorities.map(({ asn1 }) => authorityId(parseCertificate(asn1)));
}

describe("a rotation", () => {
  test.each([["pwrite64"], ["fsync"], ["rename"]] as const)(
    "is gone on with after kill -9 at each %s",
    async (call) => {
      const first = world.server("server");
      await first.ready();
      const before = await rootsOf(first);
      await stop(first);

      const killed = await atEachPoint(call, async (wrap, n) => {
        const name = `server-${n}`;
        cpSync(first.dataDir, world.path(name), { recursive: true });
        const dying = world.server(name, { wrap });
        const survived = await cameTo(
          dying.ready().then(async () => {
            await start(dying);
            expect((await until(dying)).stage).toBe("done");
          }),
        );
        await kill(dying);

        const next = world.server(name);
        await next.ready();
        // Where it was killed before it had noted anything, there is no rotation, and no harm.
        const wasNoted = await cameTo(rotationOf(next).getRotation({}));
        if (!wasNoted) await start(next);
        const { stage, problem } = await until(next);
        expect([stage, problem]).toEqual(["done", ""]);
        await expectSigning(world.dial(next.socket));
        const after = await rootsOf(next);
        const { active } = await world
          .dial(next.socket)
          .client(LocalAuthorityService)
          .getX509AuthorityState({});
        expect(after).toContain(active?.authorityId ?? "");
        expect(after).not.toContain(before[0] ?? "");
        await stop(next);
        expectWhole(next.dataDir);
        return survived;
      });
      expect(killed).toBeGreaterThan(0);
    },
    { timeout },
  );
});

/** A server whose rotation waits for an agent that never comes back, stopped. */
async function waitingIn(stage: "distributing" | "moving"): Promise<ServerProcess> {
  const server = world.server("waiting");
  const port = await server.ready();
  const local = world.dial(server.socket);
  const { x509Authorities } = await fetchBundle(local);
  const target = {
    address: `127.0.0.1:${port}`,
    bundle: () => ({
      ...emptyBundle(exampleOrg),
      x509Authorities: x509Authorities.map(({ asn1: der }) => ({ der, tainted: false })),
    }),
    serverId: serverId(exampleOrg),
    clock: systemClock,
  };
  const key = await generateKey("ec-p256");
  const anonymous = dialTls(target);
  const token = await createToken(local);
  const { certChain: chain } = await attestWith(anonymous.client(AgentService), token, await csrOf(key));
  anonymous.close();
  await start(server);
  await until(server, (status) => status.waitingAgentsCount === 1);
  if (stage === "moving") {
    const channel = dialTls({ ...target, identity: { chain, privateKey: key.privateKey } });
    await channel.client(BundleService).getBundle({ outputMask: undefined });
    await until(server, (status) => status.stage === "moving");
    channel.close();
  }
  await stop(server);
  return server;
}

describe("a rotation that is undone", () => {
  test.each([
    ["distributing", "pwrite64"],
    ["distributing", "fsync"],
    ["moving", "pwrite64"],
    ["moving", "fsync"],
  ] as const)(
    "while it is %s gets back to the old authorities after kill -9 at each %s",
    async (stage, call) => {
      const first = await waitingIn(stage);
      const killed = await atEachPoint(call, async (wrap, n) => {
        const name = `server-${n}`;
        cpSync(first.dataDir, world.path(name), { recursive: true });
        const dying = world.server(name, { wrap });
        const survived = await cameTo(
          dying.ready().then(async () => {
            await rotationOf(dying).undoRotation({});
            expect((await until(dying)).stage).toBe("undone");
          }),
        );
        await kill(dying);

        const next = world.server(name);
        await next.ready();
        const found = await rotationOf(next).getRotation({});
        if (found.undoable) await rotationOf(next).undoRotation({});
        const { stage: end, problem, replacements } = await until(next);
        expect([end, problem]).toEqual(["undone", ""]);
        const local = world.dial(next.socket);
        const authorities = local.client(LocalAuthorityService);
        const [x509, jwt] = replacements;
        expect((await authorities.getX509AuthorityState({})).active?.authorityId).toBe(
          x509?.oldAuthorityIds[0],
        );
        expect((await authorities.getJwtAuthorityState({})).active?.authorityId).toBe(
          jwt?.oldAuthorityIds[0],
        );
        const { x509Authorities } = await fetchBundle(local);
        expect(x509Authorities.map(({ tainted }) => tainted)).toEqual(
          stage === "moving" ? [false, false] : [false],
        );
        await expectSigning(local);
        await stop(next);
        expectWhole(next.dataDir);
        return survived;
      });
      expect(killed).toBeGreaterThan(0);
    },
    { timeout },
  );
});

/** What an agent's workload has: the authority of its SVID, and those that it trusts. */
interface Held {
  issuer: string;
  roots: readonly string[];
}

function heldOf({ svids }: X509SVIDResponse): Held {
  const [svid] = svids;
  const [leaf] = splitDer(svid?.x509Svid ?? new Uint8Array());
  const issuer = leaf && parseCertificate(leaf).authorityKeyId;
  return {
    issuer: Buffer.from(issuer ?? []).toString("hex"),
    roots: splitDer(svid?.bundle ?? new Uint8Array()).map((der) => authorityId(parseCertificate(der))),
  };
}

/** Follows what the workloads of agents have, and notes whenever one has what another doesn't trust. */
function followWorkloads(agents: readonly AgentProcess[]) {
  const held = new Map<AgentProcess, Held>();
  const strangers: string[] = [];
  let wake = Promise.withResolvers<void>();
  for (const agent of agents) {
    const stream = openStream(world.dial(agent.socket));
    const follow = async () => {
      for (;;) {
        held.set(agent, heldOf(await stream.next()));
        for (const { issuer } of held.values()) {
          if ([...held.values()].some(({ roots }) => !roots.includes(issuer))) strangers.push(issuer);
        }
        wake.resolve();
        wake = Promise.withResolvers();
      }
    };
    follow().catch(() => {});
  }
  return {
    strangers,
    async until(fits: (all: readonly Held[]) => boolean) {
      while (held.size < agents.length || !fits([...held.values()])) await wake.promise;
    },
  };
}

test(
  "a rotation waits for agents that hang, across kill -9 of the server in both stages that wait",
  async () => {
    const first = world.server("server");
    const port = await first.ready();
    const old = (await rootsOf(first))[0] ?? "";
    const bundle = world.path("bundle.pem");
    await Bun.write(
      bundle,
      await world.spire("server", "bundle", "show", "-socketPath", first.socket).out.all(),
    );
    const tokens = [await createToken(world.dial(first.socket)), await createToken(world.dial(first.socket))];
    for (const token of tokens) await grant(world.dial(first.socket), agentPathOf(token), `/of/${token}`);
    const agents = tokens.map((token) => world.agent({ port, bundle, dataDir: world.path(token), token }));
    // Said when the socket is open.
    for (const agent of agents) await agent.out.next((line) => line.includes("SVID is not found"));
    const workloads = followWorkloads(agents);
    await workloads.until((all) => all.every(({ issuer }) => issuer === old));
    const [one, other] = agents;
    const [oneId, otherId] = tokens.map(agentIdOf);
    const waitsFor = (stage: string, id: string | undefined) => (status: RotationStatus) =>
      status.stage === stage && status.waitingAgents.map((agent) => agent.id).join() === id;
    /** The same port, so that the agents find it. */
    const restart = async () => {
      const args = ["-dataDir", first.dataDir, "-socketPath", first.socket, "-serverPort", String(port)];
      const next = world.spire(
        ...["server", "run", "-trustDomain", "example.org", "-bindAddress", "127.0.0.1", ...args],
      );
      await next.out.next((line) => line.includes("Starting Server APIs"));
      return { ...first, ...next };
    };
    const rotate = (...args: string[]) =>
      world.spire("server", "rotate", ...args, "-socketPath", first.socket);

    other?.kill("SIGSTOP");
    const following = rotate();
    expect(await following.out.next((line) => line.includes(otherId ?? ""))).toContain(
      "has not fetched the bundle",
    );
    await until(first, waitsFor("distributing", otherId));
    await kill(first);
    expect(await following.ended).toBe(1);
    expect(await following.err.all()).toContain("goes on as soon as the server runs");

    const second = await restart();
    const status = rotate("status", "-output", "json");
    expect(JSON.parse(await status.out.all()).waiting_agents).toContainEqual(
      expect.objectContaining({ id: otherId, reason: "bundle" }),
    );
    await until(second, waitsFor("distributing", otherId));
    expect((await rootsOf(second)).length).toBe(2);
    one?.kill("SIGSTOP");
    other?.kill("SIGCONT");
    await until(second, waitsFor("moving", oneId));
    await kill(second);

    const third = await restart();
    const again = rotate("status", "-follow");
    await again.out.next((line) => line.includes(oneId ?? ""));
    again.kill("SIGINT");
    expect(await again.ended).toBe(130);
    expect(await again.err.all()).toContain("The rotation goes on in the server.");
    await until(third, waitsFor("moving", oneId));
    one?.kill("SIGCONT");
    expect((await until(third)).stage).toBe("done");
    const roots = await rootsOf(third);
    expect(roots).toHaveLength(1);
    expect(roots).not.toContain(old);
    await workloads.until((all) => all.every(({ issuer }) => issuer === roots[0]));
    expect(workloads.strangers).toEqual([]);
  },
  { timeout },
);
