import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { denial, exampleOrg, type FakeServer, startFakeServer } from "../../test/fakes/spire-server.ts";
import type { ManualClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { type Logger, nullLogger } from "../core/log.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { verifySvidChain } from "../core/x509/verify.ts";
import { dialUnix } from "../rpc/dial.ts";
import { SpiffeWorkloadAPIService, type X509SVIDResponse } from "../rpc/gen/spiffe/workload/workloadapi.ts";
import { PermissionDeniedDetails_Reason as Reason } from "../rpc/gen/spire/api/types/status.ts";
import { type AgentSettings, defaultAgentSettings, type RunningAgent, startAgent } from "./agent.ts";

const root = mkdtempSync(join(tmpdir(), "agent-"));
afterAll(() => rmSync(root, { recursive: true }));
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const mine = [{ type: "unix", value: `uid:${process.geteuid?.()}` }];
const hour = 3_600_000;
const metadata = { "workload.spiffe.io": "true" };

async function newServer(): Promise<FakeServer> {
  const server = await startFakeServer();
  closers.push(server.close);
  server.tokens.add("t");
  server.addEntry({ id: "web", selectors: mine });
  return server;
}

const settingsFor = (server: FakeServer, settings: Partial<AgentSettings> = {}): AgentSettings => ({
  ...defaultAgentSettings,
  trustDomain: exampleOrg,
  serverAddress: server.address,
  socketPath: join(mkdtempSync(join(root, "run-")), "api.sock"),
  joinToken: "t",
  bootstrap: { type: "bundle", bundle: server.bundle() },
  ...settings,
});

async function start(
  server: FakeServer,
  settings: Partial<AgentSettings> = {},
  log: Logger = nullLogger,
): Promise<RunningAgent> {
  const agent = await startAgent(settingsFor(server, settings), { clock: server.clock, log });
  closers.push(agent.close);
  return agent;
}

/** A workload that watches its X.509-SVIDs: this test's own process. */
function watch(agent: RunningAgent) {
  const channel = dialUnix(agent.socketPath);
  closers.push(channel.close);
  const api = channel.client(SpiffeWorkloadAPIService);
  const stream = api.fetchX509Svid({}, { metadata })[Symbol.asyncIterator]();
  const next = async (): Promise<X509SVIDResponse> => {
    const { done, value } = await stream.next();
    if (done) throw new Error("the stream ended");
    return value;
  };
  const nextIds = async () => (await next()).svids.map(({ spiffeId }) => spiffeId);
  return { api, next, nextIds };
}

/** Moves the clock in steps while real I/O goes on beside it, until the promise settles. */
async function advanceUntil<T>(clock: ManualClock, promise: Promise<T>, stepMs = 1_000): Promise<T> {
  let settled = false;
  const done = () => {
    settled = true;
  };
  promise.then(done, done);
  while (!settled) {
    await clock.advance(stepMs);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return promise;
}

const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

describe("a new agent", () => {
  test("attests, syncs, and gives a workload its SVID", async () => {
    const server = await newServer();
    const agent = await start(server);
    expect(String(agent.agentId)).toBe("spiffe://example.org/spire/agent/join_token/t");
    const { svids } = await watch(agent).next();
    expect(svids.map(({ spiffeId }) => spiffeId)).toEqual(["spiffe://example.org/web"]);
    const chain = svids.map(({ x509Svid }) => x509Svid);
    const now = server.clock.now() / 1000;
    expect(String(verifySvidChain(chain, server.bundle(), now).id)).toBe("spiffe://example.org/web");
  });

  test("talks to its server in the order of a stock agent", async () => {
    const server = await newServer();
    await start(server);
    expect(server.calls).toEqual([
      "AttestAgent",
      "GetBundle",
      "PostStatus",
      "SyncAuthorizedEntries",
      "GetBundle",
      "BatchNewX509SVID",
    ]);
  });

  test("fetches a JWT-SVID that it can validate itself", async () => {
    const server = await newServer();
    const { api } = watch(await start(server));
    const { svids } = await api.fetchJwtsvid({ audience: ["a"], spiffeId: "" }, { metadata });
    const svid = svids[0]?.svid ?? "";
    const { spiffeId } = await api.validateJwtsvid({ audience: "a", svid }, { metadata });
    expect(spiffeId).toBe("spiffe://example.org/web");
  });

  test("with a token that the server doesn't know fails, and leaves no socket", async () => {
    const server = await newServer();
    const settings = settingsFor(server, { joinToken: "unknown" });
    await expect(startAgent(settings, { clock: server.clock, log: nullLogger })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("join token does not exist"),
    });
    expect(existsSync(settings.socketPath)).toBe(false);
  });

  test("doesn't show its token to a server that the bootstrap bundle doesn't know", async () => {
    const server = await newServer();
    const impostor = await newServer();
    const settings = settingsFor(impostor, { bootstrap: { type: "bundle", bundle: server.bundle() } });
    const starting = startAgent(settings, { clock: impostor.clock, log: nullLogger });
    const failure = await advanceUntil(impostor.clock, failureOf(starting));
    expect(failure).toMatchObject({ code: "UNAVAILABLE" });
    expect(impostor.calls).toEqual([]);
  });

  test("believes any server of the right name when bootstrapped insecurely, and says so", async () => {
    const server = await newServer();
    const warnings: string[] = [];
    const log: Logger = { ...nullLogger, warn: (message) => warnings.push(message), with: () => log };
    await start(server, { bootstrap: { type: "insecure" } }, log);
    expect(warnings).toEqual(["Insecure bootstrap enabled; skipping server certificate verification"]);
  });

  test("waits for a server that isn't there yet", async () => {
    const server = await newServer();
    server.refuse(new SpireError("UNAVAILABLE", "starting"));
    const refused = server.nextCall("SyncAuthorizedEntries");
    const starting = start(server);
    await refused;
    server.refuse(undefined);
    const agent = await advanceUntil(server.clock, starting);
    expect(await watch(agent).nextIds()).toEqual(["spiffe://example.org/web"]);
  });
});

describe("a change of entries", () => {
  test("reaches open streams at once when the agent is nudged", async () => {
    const server = await newServer();
    const agent = await start(server);
    const workload = watch(agent);
    await workload.next();
    server.addEntry({ id: "api", selectors: mine });
    agent.nudge();
    expect(await workload.nextIds()).toEqual(["spiffe://example.org/api", "spiffe://example.org/web"]);
    server.entries.clear();
    agent.nudge();
    expect(await failureOf(workload.next())).toMatchObject({ code: "PERMISSION_DENIED" });
  });

  test("is found by the next poll otherwise", async () => {
    const server = await newServer();
    const workload = watch(await start(server));
    await workload.next();
    server.addEntry({ id: "api", selectors: mine });
    const told = workload.nextIds();
    expect((await advanceUntil(server.clock, told)).length).toBe(2);
  });

  test("many nudges lead to one sync under way and one more", async () => {
    const server = await newServer();
    const agent = await start(server);
    const before = server.calls.filter((call) => call === "SyncAuthorizedEntries").length;
    for (let index = 0; index < 100; index++) agent.nudge();
    const called = server.nextCall("SyncAuthorizedEntries");
    await called;
    for (let index = 0; index < 100; index++) agent.nudge();
    await server.nextCall("SyncAuthorizedEntries");
    await server.nextCall("GetBundle");
    const after = server.calls.filter((call) => call === "SyncAuthorizedEntries").length;
    expect(after - before).toBe(2);
  });

  test("beyond one page is fetched by revision: only what differs", async () => {
    const server = await newServer();
    for (const id of ["a", "b", "c", "d", "e", "f", "g"]) server.addEntry({ id, selectors: mine });
    const agent = await start(server);
    const workload = watch(agent);
    expect((await workload.nextIds()).length).toBe(8);
    expect(server.calls.filter((call) => call.startsWith("ids "))).toEqual([
      "ids a,b,c",
      "ids d,e,f",
      "ids g,web",
    ]);
    server.calls.length = 0;
    const c = server.entries.get("c");
    if (c) server.entries.set("c", { ...c, revisionNumber: 1, hint: "changed" });
    server.entries.delete("d");
    agent.nudge();
    const [first] = [await workload.next()];
    const last = first.svids.some(({ hint }) => hint === "changed") ? first : await workload.next();
    expect(last.svids.map(({ hint }) => hint)).toContain("changed");
    expect(server.calls.filter((call) => call.startsWith("ids "))).toEqual(["ids c"]);
  });

  test("that the server won't sign for keeps back that entry's workloads only", async () => {
    const server = await newServer();
    server.unsigned.add("refused");
    server.addEntry({ id: "refused", selectors: [{ type: "unix", value: "uid:123456" }] });
    expect(await watch(await start(server)).nextIds()).toEqual(["spiffe://example.org/web"]);
  });

  test("that federates brings the other trust domain's bundle", async () => {
    const server = await newServer();
    const other = parseTrustDomain("other.test");
    server.federated.set(other, emptyBundle(other));
    server.addEntry({ id: "web", selectors: mine, federatesWith: [other, parseTrustDomain("unknown.test")] });
    const { federatedBundles } = await watch(await start(server)).next();
    expect(Object.keys(federatedBundles)).toEqual(["spiffe://other.test"]);
  });
});

describe("rotation", () => {
  const serials = (response: X509SVIDResponse) =>
    response.svids.map(({ x509Svid }) => parseCertificate(x509Svid).serialNumber);
  const keys = (response: X509SVIDResponse) => response.svids.map(({ x509SvidKey }) => String(x509SvidKey));

  test("at half life gives workloads a new SVID with a new key, and the agent another slot", async () => {
    const server = await newServer();
    const directory = mkdtempSync(join(root, "keys-"));
    const workload = watch(await start(server, { keyManager: { type: "disk", directory } }));
    const first = await workload.next();
    await server.clock.advance(0.56 * hour);
    const second = await advanceUntil(server.clock, workload.next());
    expect(serials(second)).not.toEqual(serials(first));
    expect(keys(second)).not.toEqual(keys(first));
    if (server.shown.length < 2) await advanceUntil(server.clock, server.nextCall("RenewAgent"));
    await advanceUntil(server.clock, server.nextCall("SyncAuthorizedEntries"));
    expect(server.shown.length).toBe(2);
    const kept = JSON.parse(readFileSync(join(directory, "keys.json"), "utf8"));
    expect(Object.keys(kept.keys).sort()).toEqual(["agent-svid-A", "agent-svid-B"]);
  });

  test("of a tainted authority replaces what it signed, the agent's own SVID too", async () => {
    const server = await newServer();
    const agent = await start(server);
    const workload = watch(agent);
    await workload.next();
    await server.replaceCa();
    agent.nudge();
    const isClean = (response: X509SVIDResponse) => {
      const chain = response.svids.map(({ x509Svid }) => x509Svid);
      const trusted = server.bundle().x509Authorities.filter(({ tainted }) => !tainted);
      const clean = { ...server.bundle(), x509Authorities: trusted };
      try {
        return verifySvidChain(chain, clean, server.clock.now() / 1000).id !== undefined;
      } catch {
        return false;
      }
    };
    while (!isClean(await workload.next()));
    const renewed = server.nextCall("RenewAgent");
    if (!server.calls.includes("RenewAgent")) await advanceUntil(server.clock, renewed);
  });

  test("of a re-attestable agent is an attestation", async () => {
    const server = await newServer();
    server.makeReattestable();
    const joinToken = async () => {
      server.tokens.add("again");
      return "again";
    };
    const agent = await start(server, { joinToken });
    server.calls.length = 0;
    await server.clock.advance(0.56 * hour);
    await advanceUntil(server.clock, server.nextCall("SyncAuthorizedEntries"));
    expect(server.calls).toContain("AttestAgent");
    expect(server.calls).not.toContain("RenewAgent");
    agent.nudge();
  });
});

describe("after a clock step past every expiry", () => {
  test("an agent with a source of tokens comes back, and open streams go on", async () => {
    const server = await newServer();
    const joinToken = async () => {
      server.tokens.add("t");
      return "t";
    };
    const agent = await start(server, { joinToken });
    const workload = watch(agent);
    const before = await workload.next();
    await server.clock.advance(12 * hour);
    const response = await advanceUntil(server.clock, workload.next());
    expect(response.svids).not.toEqual(before.svids);
    const [svid] = response.svids;
    const { notAfter } = parseCertificate(svid?.x509Svid ?? Buffer.alloc(0));
    expect(notAfter).toBeGreaterThan(server.clock.now() / 1000);
    expect(String(agent.agentId)).toBe("spiffe://example.org/spire/agent/join_token/t");
  });

  test("an agent that has nothing to attest with ends, without its SVID and socket", async () => {
    const server = await newServer();
    const dataDir = mkdtempSync(join(root, "data-"));
    const agent = await start(server, { dataDir });
    await server.clock.advance(12 * hour);
    const error = await advanceUntil(server.clock, agent.stopped);
    expect(error).toBeInstanceOf(SpireError);
    expect(existsSync(agent.socketPath)).toBe(false);
    expect(JSON.parse(readFileSync(join(dataDir, "agent-data.json"), "utf8")).svid).toEqual([]);
  });
});

describe("an agent that the server turns away", () => {
  test("for being banned removes its SVID and ends", async () => {
    const server = await newServer();
    const dataDir = mkdtempSync(join(root, "data-"));
    const agent = await start(server, { dataDir, joinToken: async () => "t" });
    server.refuse(denial(Reason.AGENT_BANNED));
    agent.nudge();
    expect(await agent.stopped).toMatchObject({ code: "PERMISSION_DENIED" });
    const state = JSON.parse(readFileSync(join(dataDir, "agent-data.json"), "utf8"));
    expect(state.svid).toEqual([]);
    expect(state.bundle.length).toBe(1);
    expect(existsSync(agent.socketPath)).toBe(false);
  });

  test.each([
    ["expired", Reason.AGENT_EXPIRED],
    ["not attested", Reason.AGENT_NOT_ATTESTED],
    ["not active", Reason.AGENT_NOT_ACTIVE],
  ])("as %s attests anew when it can", async (_name, reason) => {
    const server = await newServer();
    const joinToken = async () => {
      server.tokens.add("next");
      // The refusal was of the old SVID.
      if (server.calls.length > 0) server.refuse(undefined);
      return "next";
    };
    const agent = await start(server, { joinToken });
    const workload = watch(agent);
    await workload.next();
    server.addEntry({ id: "api", selectors: mine });
    server.refuse(denial(reason));
    agent.nudge();
    expect((await workload.nextIds()).length).toBe(2);
    expect(server.calls.filter((call) => call === "AttestAgent").length).toBe(2);
  });

  test("as not attested ends when it can't", async () => {
    const server = await newServer();
    const agent = await start(server);
    server.refuse(denial(Reason.AGENT_NOT_ATTESTED));
    agent.nudge();
    expect(await agent.stopped).toMatchObject({ code: "PERMISSION_DENIED" });
  });
});

describe("while the server is away", () => {
  test("workloads are served from memory, and changes arrive afterwards", async () => {
    const server = await newServer();
    const agent = await start(server);
    server.refuse(new SpireError("UNAVAILABLE", "away"));
    agent.nudge();
    await server.nextCall("SyncAuthorizedEntries");
    const workload = watch(agent);
    expect(await workload.nextIds()).toEqual(["spiffe://example.org/web"]);
    server.addEntry({ id: "api", selectors: mine });
    server.refuse(undefined);
    expect((await advanceUntil(server.clock, workload.nextIds(), 5_000)).length).toBe(2);
  });
});

describe("a restarted agent", () => {
  const kept = () => {
    const directory = mkdtempSync(join(root, "data-"));
    return { dataDir: directory, keyManager: { type: "disk", directory } } as const;
  };

  test("goes on with its SVID and key, without a token", async () => {
    const server = await newServer();
    const state = kept();
    await (await start(server, state)).close();
    const { joinToken: _none, ...settings } = settingsFor(server, state);
    server.calls.length = 0;
    const agent = await startAgent(settings, { clock: server.clock, log: nullLogger });
    closers.push(agent.close);
    expect(server.calls).not.toContain("AttestAgent");
    expect(await watch(agent).nextIds()).toEqual(["spiffe://example.org/web"]);
  });

  test("attests with a new token when its SVID has expired", async () => {
    const server = await newServer();
    const state = kept();
    await (await start(server, state)).close();
    await server.clock.advance(2 * hour);
    server.tokens.add("t2");
    const agent = await start(server, { ...state, joinToken: "t2" });
    expect(String(agent.agentId)).toEndWith("/join_token/t2");
  });

  test("attests anew when its key is gone", async () => {
    const server = await newServer();
    const state = kept();
    await (await start(server, state)).close();
    server.tokens.add("t2");
    const agent = await start(server, { dataDir: state.dataDir, joinToken: "t2" });
    expect(String(agent.agentId)).toEndWith("/join_token/t2");
  });

  test("that was evicted meanwhile attests with the token it was given", async () => {
    const server = await newServer();
    const state = kept();
    await (await start(server, state)).close();
    server.refuse(denial(Reason.AGENT_NOT_ATTESTED));
    const joinToken = async () => {
      server.refuse(undefined);
      server.tokens.add("t2");
      return "t2";
    };
    const agent = await start(server, { ...state, joinToken });
    expect(String(agent.agentId)).toEndWith("/join_token/t2");
  });
});

test("close() removes the socket and says that nothing went wrong", async () => {
  const server = await newServer();
  const agent = await start(server);
  await agent.close();
  expect(await agent.stopped).toBeUndefined();
  expect(existsSync(agent.socketPath)).toBe(false);
});

test("a second agent can't take the socket of a living one", async () => {
  const server = await newServer();
  const agent = await start(server);
  const settings = settingsFor(server, { socketPath: agent.socketPath });
  const second = startAgent(settings, { clock: server.clock, log: nullLogger });
  await expect(second).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(await watch(agent).nextIds()).toEqual(["spiffe://example.org/web"]);
});
