/** `rotate` on a real server: agents that follow, that are away, that come back; stops, ways back, emergencies. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:tls";
import { exportPkcs8, generateKey } from "../../src/core/keys.ts";
import { authorityId, formatPemCertificates, parseCertificate } from "../../src/core/x509/certificate.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import { AgentActivityService } from "../../src/rpc/gen/spire/server/activity/v1/activity.ts";
import { RotationService, type RotationStatus } from "../../src/rpc/gen/spire/server/rotation/v1/rotation.ts";
import type { Client } from "../../src/rpc/service.ts";
import { createFrameReader, encodeCall, encodeFrame, frameTypes, preface } from "../faults/raw-http2.ts";
import { failureOf } from "./failure.ts";
import {
  csrOf,
  entryMessage,
  idMessage,
  startTestServer,
  type TestAgent,
  type TestServer,
} from "./running.ts";

let running: TestServer;
let api: Client<typeof RotationService>;
beforeEach(async () => {
  running = await startTestServer();
  api = running.local.client(RotationService);
});
afterEach(() => running.close());

const request = { kinds: ["x509"], emergency: false, ignoreMinted: false, ignoreDownstream: false };

/** Follows until a status fits. */
async function until(fits: (status: RotationStatus) => boolean): Promise<RotationStatus> {
  const stop = new AbortController();
  let last: RotationStatus | undefined;
  try {
    for await (const status of api.watchRotation({}, { signal: stop.signal })) {
      last = status;
      if (fits(status)) return status;
    }
  } finally {
    stop.abort();
  }
  throw new Error(`the rotation ended as ${last?.stage}: ${last?.problem}`);
}

const inStage = (stage: string) => (status: RotationStatus) => status.stage === stage;
/** Held up by exactly these agents, each for its reason. */
const waitsFor = (stage: string, waiting: Readonly<Record<string, string>>) => (status: RotationStatus) =>
  status.stage === stage &&
  Bun.deepEquals(Object.fromEntries(status.waitingAgents.map(({ id, reason }) => [id, reason])), waiting);

const fetchBundle = ({ channel }: TestAgent) =>
  channel.client(BundleService).getBundle({ outputMask: undefined });

/** Renews the agent's own SVID, and uses the new one. */
async function renew(agent: TestAgent): Promise<TestAgent> {
  const key = await generateKey("ec-p256");
  const params = { csr: await csrOf(key) };
  const { svid } = await agent.channel.client(AgentService).renewAgent({ params });
  const identity = { chain: svid?.certChain ?? [], privateKey: key.privateKey };
  const renewed = { ...agent, key, identity, channel: running.dial(identity) };
  await renewed.channel.client(EntryService).getAuthorizedEntries({ outputMask: undefined });
  return renewed;
}

async function grant(agent: TestAgent, fields: { x509SvidTtl?: number } = {}): Promise<string> {
  const parentId = idMessage(agent.id.slice("spiffe://example.org".length));
  const entry = entryMessage({ parentId, spiffeId: idMessage(`/w${Math.random()}`), ...fields });
  const { results } = await running.local
    .client(EntryService)
    .batchCreateEntry({ entries: [entry], outputMask: undefined });
  return results[0]?.entry?.id ?? "";
}

async function signSvid({ channel }: TestAgent, entryId: string): Promise<string> {
  const params = [{ entryId, csr: await csrOf(await generateKey("ec-p256")) }];
  const { results } = await channel.client(SVIDService).batchNewX509Svid({ params });
  const [leaf] = results[0]?.svid?.certChain ?? [];
  if (!leaf) throw new Error(results[0]?.status?.message);
  return Buffer.from(parseCertificate(leaf).authorityKeyId ?? []).toString("hex");
}

const roots = () =>
  running.server
    .bundle()
    .x509Authorities.map(
      ({ der, tainted }) => `${authorityId(parseCertificate(der))}${tainted ? " tainted" : ""}`,
    );
const activeId = async () =>
  (await running.local.client(LocalAuthorityService).getX509AuthorityState({})).active?.authorityId ?? "";

describe("a rotation", () => {
  test("waits for the bundle at every agent, and for every SVID, and names whom it waits for", async () => {
    const old = await activeId();
    const first = await running.attest();
    const second = await running.attest();
    const entry = await grant(first);
    expect(await signSvid(first, entry)).toBe(old);
    await api.startRotation(request);
    await until(waitsFor("distributing", { [first.id]: "bundle", [second.id]: "bundle" }));
    await fetchBundle(first);
    await until(waitsFor("distributing", { [second.id]: "bundle" }));
    expect(await activeId()).toBe(old);
    await fetchBundle(second);
    const moving = await until(waitsFor("moving", { [first.id]: "bundle", [second.id]: "bundle" }));
    const next = moving.replacements[0]?.newAuthorityId ?? "";
    expect(roots()).toEqual([`${old} tainted`, next]);
    expect(await activeId()).toBe(next);

    await fetchBundle(first);
    await fetchBundle(second);
    await until(waitsFor("moving", { [first.id]: "agent_svid", [second.id]: "agent_svid" }));
    const renewed = await renew(first);
    const waiting = await until(
      waitsFor("moving", { [first.id]: "workload_svids", [second.id]: "agent_svid" }),
    );
    expect(waiting.waitingAgents.find(({ id }) => id === first.id)?.svids).toBe(1);
    expect(await signSvid(renewed, entry)).toBe(next);
    await until(waitsFor("moving", { [second.id]: "agent_svid" }));
    expect(roots()).toEqual([`${old} tainted`, next]);
    await renew(second);
    await until(inStage("done"));
    expect(roots()).toEqual([next]);
  });

  test("replaces the keys of all kinds unless one is named", async () => {
    const { replacements } = await api
      .startRotation({ ...request, kinds: [] })
      .then(() => until(inStage("done")));
    expect(replacements.map(({ kind }) => kind)).toEqual(["x509", "jwt"]);
    expect(running.server.bundle().jwtAuthorities.map(({ keyId }) => keyId)).toEqual([
      replacements[1]?.newAuthorityId ?? "",
    ]);
  });

  test("waits for no agent that is banned, evicted or expired, also when it becomes so later", async () => {
    const [banned, evicted, expired] = [
      await running.attest(),
      await running.attest(),
      await running.attest(),
    ];
    const agents = running.local.client(AgentService);
    await agents.banAgent({ id: idMessage(banned.id.slice("spiffe://example.org".length)) });
    await api.startRotation(request);
    await until(waitsFor("distributing", { [evicted.id]: "bundle", [expired.id]: "bundle" }));
    await agents.deleteAgent({ id: idMessage(evicted.id.slice("spiffe://example.org".length)) });
    await until(waitsFor("distributing", { [expired.id]: "bundle" }));
    running.clock.putForward(2 * 3_600_000);
    await until(inStage("done"));
  });

  test("counts no bundle whose answer was cancelled, or asked for by nobody it waits for", async () => {
    const agent = await running.attest();
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    await running.anonymous.client(BundleService).getBundle({ outputMask: undefined });
    await agent.channel.client(BundleService).getBundle({
      outputMask: {
        x509Authorities: false,
        jwtAuthorities: true,
        witAuthorities: false,
        refreshHint: true,
        sequenceNumber: true,
      },
    });
    await cancelBundle(agent);
    // One more look of the rotation, and the agent's own word that it was there.
    const { stageSince } = await api.getRotation({});
    running.clock.putForward(1_000);
    const { agents } = await running.local
      .client(AgentActivityService)
      .listAgentActivity({ pageSize: 0, pageToken: "" });
    expect(agents).toMatchObject([{ id: agent.id, bundleSequence: 0 }]);
    expect(await api.getRotation({})).toMatchObject({ stage: "distributing", stageSince });
    await fetchBundle(agent);
    await until(inStage("moving"));
  });

  test("waits for minted SVIDs, unless it is told not to", async () => {
    await running.mint("/minted");
    await api.startRotation(request);
    const status = await until(({ waitingFor }) => waitingFor.length > 0);
    expect(status.waitingFor.map(({ kind, holders }) => [kind, holders])).toEqual([["x509", "minted"]]);
    running.clock.putForward(2 * 3_600_000);
    await until(inStage("done"));
    await running.mint("/minted");
    await api.startRotation({ ...request, ignoreMinted: true });
    await until(inStage("done"));
  });

  test("waits for tokens until they expire", async () => {
    const agent = await running.attest();
    const entryId = await grant(agent);
    await agent.channel.client(SVIDService).newJwtsvid({ entryId, audience: ["a"] });
    await api.startRotation({ ...request, kinds: ["jwt"] });
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    await fetchBundle(agent);
    await until(inStage("moving"));
    await fetchBundle(agent);
    const { waitingFor } = await until(
      (status) => status.waitingAgentsCount === 0 && status.stage === "moving",
    );
    expect(waitingFor).toMatchObject([{ kind: "jwt", holders: "workloads" }]);
    running.clock.putForward(301_000);
    await until(inStage("done"));
  });

  test("keeps single steps of its kinds out", async () => {
    const agent = await running.attest();
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    const single = running.local.client(LocalAuthorityService);
    const failure = await failureOf(single.prepareX509Authority({}));
    expect([failure.code, failure.message]).toEqual([
      "FAILED_PRECONDITION",
      'a rotation of the x509 authority is under way: see "rotate status"; it ends by itself or by "rotate undo"',
    ]);
    expect((await single.prepareJwtAuthority({})).preparedAuthority).toBeDefined();
    expect((await failureOf(api.startRotation(request))).code).toBe("FAILED_PRECONDITION");
  });

  test("stays where it is while it is stopped", async () => {
    const agent = await running.attest();
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    expect(await api.stopRotation({})).toMatchObject({ stopped: true, stage: "distributing" });
    await fetchBundle(agent);
    expect(await api.getRotation({})).toMatchObject({ stopped: true, stage: "distributing" });
    expect((await failureOf(api.stopRotation({}))).code).toBe("FAILED_PRECONDITION");
    await api.resumeRotation({});
    await until(inStage("moving"));
  });
});

describe("undoing", () => {
  test("before the new authority signs takes it out of the bundle", async () => {
    const old = await activeId();
    const agent = await running.attest();
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    await api.undoRotation({});
    await until(inStage("undone"));
    expect([await activeId(), roots()]).toEqual([old, [old]]);
    const { prepared } = await running.local.client(LocalAuthorityService).getX509AuthorityState({});
    expect(prepared).toBeUndefined();
  });

  test("afterwards lets the old one sign again, untainted, and keeps what the new one signed valid", async () => {
    const old = await activeId();
    const agent = await running.attest();
    const entry = await grant(agent);
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    await fetchBundle(agent);
    const { replacements } = await until(inStage("moving"));
    const next = replacements[0]?.newAuthorityId ?? "";
    expect(await signSvid(agent, entry)).toBe(next);
    await api.undoRotation({});
    await until(inStage("undone"));
    expect([await activeId(), roots()]).toEqual([old, [old, next]]);
    expect(await signSvid(agent, entry)).toBe(old);

    // The next one replaces both.
    await api.startRotation({ ...request, emergency: true });
    await until(inStage("distributing"));
    await fetchBundle(agent);
    await until(inStage("moving"));
    await fetchBundle(agent);
    expect(await signSvid(await renew(agent), entry)).not.toBe(next);
    const done = await until(inStage("done"));
    expect(done.replacements[0]?.oldAuthorityIds).toEqual([old, next]);
    expect(roots()).toEqual([done.replacements[0]?.newAuthorityId ?? ""]);
  });

  test("is refused once the old authority is revoked", async () => {
    await api.startRotation(request);
    await until(inStage("done"));
    expect((await failureOf(api.undoRotation({}))).code).toBe("FAILED_PRECONDITION");
  });
});

describe("an emergency", () => {
  test("lets agents that are there have the new authorities, and see the taint of the old ones", async () => {
    const old = await activeId();
    const agent = await running.attest();
    const entry = await grant(agent);
    await signSvid(agent, entry);
    await running.mint("/minted");
    await api.startRotation({ ...request, kinds: [], emergency: true });
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    expect(await activeId()).toBe(old);
    await fetchBundle(agent);
    await until(waitsFor("moving", { [agent.id]: "bundle" }));
    const next = await activeId();
    expect(next).not.toBe(old);
    const { x509Authorities } = await fetchBundle(agent);
    expect(x509Authorities.map(({ tainted }) => tainted).sort()).toEqual([false, true]);
    const renewed = await renew(agent);
    expect(await signSvid(renewed, entry)).toBe(next);
    await until(inStage("done"));
    expect(roots()).toEqual([next]);
  });

  test("ends the waiting of a rotation under way", async () => {
    const agent = await running.attest();
    await fetchBundle(agent);
    await api.startRotation(request);
    await until(waitsFor("distributing", { [agent.id]: "bundle" }));
    const other = await failureOf(api.startRotation({ ...request, kinds: ["jwt"], emergency: true }));
    expect(other.code).toBe("FAILED_PRECONDITION");
    await api.startRotation({ ...request, emergency: true });
    await fetchBundle(agent);
    await until(waitsFor("moving", { [agent.id]: "bundle" }));
    await fetchBundle(agent);
    await renew(agent);
    await until(inStage("done"));
  });
});

/** Asks for the bundle without room for the answer, and cancels when its headers are there. */
async function cancelBundle(agent: TestAgent): Promise<void> {
  const [host = "", port = ""] = running.server.address.split(":");
  const key = `-----BEGIN PRIVATE KEY-----\n${Buffer.from(exportPkcs8(agent.key)).toString("base64")}\n-----END PRIVATE KEY-----\n`;
  const cert = formatPemCertificates(agent.identity.chain);
  const options = { host, port: Number(port), key, cert, ALPNProtocols: ["h2"], rejectUnauthorized: false };
  const socket = connect(options);
  const cancelled = Promise.withResolvers<void>();
  const read = createFrameReader();
  const noWindow = Buffer.from([0, 4, 0, 0, 0, 0]);
  socket.on("secureConnect", () => {
    socket.write(Buffer.concat([preface, encodeFrame(frameTypes.settings, 0, 0, noWindow)]));
    socket.write(encodeCall(1, "/spire.api.server.bundle.v1.Bundle/GetBundle"));
  });
  socket.on("data", (bytes: Buffer) => {
    for (const frame of read(bytes)) {
      if (frame.type !== frameTypes.headers || frame.streamId !== 1) continue;
      socket.end(encodeFrame(frameTypes.reset, 0, 1, Buffer.from([0, 0, 0, 8])));
    }
  });
  socket.on("close", () => cancelled.resolve());
  socket.on("error", (error) => cancelled.reject(error));
  await cancelled.promise;
}
