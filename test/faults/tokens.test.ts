/** Join tokens and requests for certificates that are no good, at a server over TLS. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { systemClock } from "../../src/core/clock.ts";
import { generateKey } from "../../src/core/keys.ts";
import { makeSpiffeId, serverId } from "../../src/core/spiffe-id.ts";
import { type Channel, dialTls } from "../../src/rpc/dial.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Bundle } from "../../src/rpc/gen/spire/api/types/bundle.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";
import { failureOf } from "../server/failure.ts";
import { attestWith, csrOf, withBadSignature } from "../server/running.ts";
import { fetchBundle, verifyBy } from "./soundness.ts";
import {
  agentIdOf,
  agentPathOf,
  createToken,
  createWorld,
  exampleOrg,
  grant,
  type ServerProcess,
  stop,
  type World,
} from "./world.ts";

let world: World;
let server: ServerProcess;
let local: Channel;
let bundle: Bundle;
let dial: (identity?: TlsIdentity) => Channel;
const channels: Channel[] = [];

beforeAll(async () => {
  world = createWorld();
  server = world.server();
  const port = await server.ready();
  local = world.dial(server.socket);
  bundle = await fetchBundle(local);
  const trusted = {
    trustDomain: exampleOrg,
    x509Authorities: bundle.x509Authorities.map(({ asn1 }) => ({ der: asn1, tainted: false })),
  };
  dial = (identity) => {
    const channel = dialTls({
      address: `127.0.0.1:${port}`,
      bundle: () => trusted,
      serverId: serverId(exampleOrg),
      clock: systemClock,
      ...(identity && { identity }),
    });
    channels.push(channel);
    return channel;
  };
});
afterAll(async () => {
  for (const channel of channels) channel.close();
  await stop(server);
  await world.close();
});

const newCsr = async () => csrOf(await generateKey("ec-p256"));
/** Over a connection of its own, as agents do it. */
const attest = async (token: string, csr?: Buffer) =>
  attestWith(dial().client(AgentService), token, csr ?? (await newCsr()));

const used = {
  code: "INVALID_ARGUMENT",
  message: expect.stringContaining("join token does not exist or has already been used"),
};

describe("a join token", () => {
  test("attests once", async () => {
    const token = await createToken(local);
    const svid = await attest(token);
    expect(verifyBy(bundle, svid.certChain).id).toBe(agentIdOf(token));
    expect(await failureOf(attest(token))).toMatchObject(used);
  });

  test("attests one of several who show it at the same time", async () => {
    const token = await createToken(local);
    const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => attest(token)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(outcome.reason).toMatchObject(used);
    }
  });

  test.each([
    ["empty", ""],
    ["unknown", "unknown"],
    ["a way up", "../server"],
    ["two segments", "a/b"],
    ["a percent sign", "%"],
    ["3,000 bytes", "a".repeat(3_000)],
    ["a zero byte", "\u0000"],
    ["beyond ASCII", "t\u00f6ken"],
  ])("that is %s is refused", async (_what, token) => {
    const failure = await failureOf(attest(token));
    expect(failure.code).toBe("INVALID_ARGUMENT");
    // What was shown may be somebody's secret with a slip of the hand.
    if (token.length > 1) expect(failure.message).not.toContain(token);
  });

  test("that has expired is refused as that, and is gone then", async () => {
    const request = { ttl: 1, token: "", agentId: undefined };
    const { value, expiresAt } = await local.client(AgentService).createJoinToken(request);
    // The server lets an address attest once a second, so time passes with each try.
    while (Date.now() <= expiresAt * 1000) await failureOf(attest("unknown"));
    expect(await failureOf(attest(value))).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "join token expired",
    });
    expect(await failureOf(attest(value))).toMatchObject(used);
  });
});

const badRequests = [
  { what: "empty", csr: async () => Buffer.alloc(0) },
  { what: "not DER", csr: async () => Buffer.from("not DER at all") },
  { what: "PEM", csr: async () => Buffer.from("-----BEGIN CERTIFICATE REQUEST-----\n") },
  { what: "cut short", csr: async () => (await newCsr()).subarray(0, 100) },
  { what: "followed by more", csr: async () => Buffer.concat([await newCsr(), Buffer.from([0])]) },
  { what: "badly signed", csr: async () => withBadSignature(await newCsr()) },
];

describe("a CSR that is", () => {
  test.each(badRequests)("$what doesn't use up the join token", async ({ csr }) => {
    const token = await createToken(local);
    const failure = await failureOf(attest(token, await csr()));
    expect(failure.code).toBe("INVALID_ARGUMENT");
    expect(failure.message).toMatch(/CSR/);
    await attest(token);
  });

  test("for another ID than the agent's gets the agent's: the token says who it is", async () => {
    const token = await createToken(local);
    const other = makeSpiffeId(exampleOrg, "/spire/agent/join_token/other");
    const svid = await attest(token, await csrOf(await generateKey("ec-p256"), other));
    expect(verifyBy(bundle, svid.certChain).id).toBe(agentIdOf(token));
  });

  test("bad for a workload fails alone in its batch; one for another ID gets its entry's", async () => {
    const token = await createToken(local);
    const key = await generateKey("ec-p256");
    const { certChain } = await attest(token, await csrOf(key));
    const entryId = await grant(local, agentPathOf(token), "/web");
    const other = await csrOf(await generateKey("ec-p256"), makeSpiffeId(exampleOrg, "/other"));
    const csrs = [...(await Promise.all(badRequests.map(({ csr }) => csr()))), other];
    const agent = dial({ chain: certChain, privateKey: key.privateKey });
    const { results } = await agent
      .client(SVIDService)
      .batchNewX509Svid({ params: csrs.map((csr) => ({ entryId, csr })) });
    const good = results.pop();
    expect(verifyBy(bundle, good?.svid?.certChain ?? []).id).toBe(makeSpiffeId(exampleOrg, "/web"));
    for (const { status, svid } of results) {
      expect({ code: status?.code, svid }).toEqual({ code: 3, svid: undefined });
    }
  });

  test("bad for the administrator mints nothing", async () => {
    for (const { csr } of badRequests) {
      const failure = await failureOf(local.client(SVIDService).mintX509Svid({ csr: await csr(), ttl: 0 }));
      expect(failure.code).toBe("INVALID_ARGUMENT");
    }
    const reserved = await csrOf(await generateKey("ec-p256"), makeSpiffeId(exampleOrg, "/spire/server"));
    const failure = await failureOf(local.client(SVIDService).mintX509Svid({ csr: reserved, ttl: 0 }));
    expect(failure.code).toBe("INVALID_ARGUMENT");
  });
});

test("an agent without a proof, and one that ends before it gives one, are refused", async () => {
  const silent = dial().client(AgentService).attestAgent();
  silent.end();
  expect((await failureOf(silent.receive())).code).toBe("INVALID_ARGUMENT");
  const empty = dial().client(AgentService).attestAgent();
  await empty.send({ step: undefined });
  expect((await failureOf(empty.receive())).code).toBe("INVALID_ARGUMENT");
  const unknown = dial().client(AgentService).attestAgent();
  const data = { type: "tarot", payload: Buffer.from("cards") };
  await unknown.send({ step: { $case: "params", value: { data, params: { csr: await newCsr() } } } });
  expect((await failureOf(unknown.receive())).code).toBe("FAILED_PRECONDITION");
});
