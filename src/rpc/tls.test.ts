import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect as connectHttp2 } from "node:http2";
import { connect as connectTcp } from "node:net";
import { type ConnectionOptions, connect, createServer, type TLSSocket } from "node:tls";
import { createManualClock, type ManualClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../core/spiffe-id.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { type Channel, dialTls, type TlsTarget } from "./dial.ts";
import { type Listener, listenTls } from "./listen.ts";
import { bindService, type Caller, type Client, type Handlers } from "./service.ts";
import {
  createGate,
  createRecordingLogger,
  createTestAuthority,
  type TestAuthority,
  testDefinition,
} from "./testing.ts";
import { pemOf, type ServerTls, type TlsIdentity } from "./tls.ts";

const trustDomain = parseTrustDomain("example.org");
const idOf = (path: string): SpiffeId => parseSpiffeId(`spiffe://example.org${path}`);
const serverId = idOf("/spire/server");
const agentId = idOf("/spire/agent/test");

let clock: ManualClock;
let authority: TestAuthority;
let stranger: TestAuthority;
let serverIdentity: TlsIdentity;
let identityListeners: Set<() => void>;
let log: ReturnType<typeof createRecordingLogger>;
let listeners: Listener[];
let channels: Channel[];

beforeEach(async () => {
  clock = createManualClock(1_800_000_000_000);
  authority = await createTestAuthority(trustDomain, 1_800_000_000);
  stranger = await createTestAuthority(trustDomain, 1_800_000_000);
  serverIdentity = await authority.issue(serverId);
  identityListeners = new Set();
  log = createRecordingLogger();
  listeners = [];
  channels = [];
});
afterEach(async () => {
  for (const channel of channels) channel.close();
  await Promise.all(listeners.map((listener) => listener.close(0)));
});

/** Answers with who the caller is; keeps the callers. */
async function serve(tls: Partial<ServerTls> = {}, options: { maxConnectionAgeMs?: number } = {}) {
  const callers: Caller[] = [];
  const handlers: Handlers<typeof testDefinition> = {
    async echo(_, { caller }) {
      callers.push(caller);
      return caller.svid?.id ?? "anonymous";
    },
    async *watch(_, call) {
      yield "open";
      await new Promise((resolve) => call.signal.addEventListener("abort", resolve));
    },
  };
  const listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    log,
    services: [bindService(testDefinition, handlers)],
    tls: {
      identity: () => serverIdentity,
      onIdentityChange(changed) {
        identityListeners.add(changed);
        return () => identityListeners.delete(changed);
      },
      bundle: (asked) => (asked === trustDomain ? authority.bundle : undefined),
      clock,
      ...tls,
    },
    ...options,
  });
  listeners.push(listener);
  return { ...listener, port: listener.port ?? 0, callers };
}

function dial(address: string, target: Partial<TlsTarget> = {}): Client<typeof testDefinition> {
  const channel = dialTls({ address, bundle: () => authority.bundle, serverId, clock, ...target });
  channels.push(channel);
  return channel.client(testDefinition);
}

const failureOf = (promise: Promise<unknown>): Promise<SpireError> =>
  promise.then(
    (value) => {
      throw new Error(`did not fail but gave ${value}`);
    },
    (error: unknown) => SpireError.from(error),
  );

describe("the server", () => {
  test("takes a caller without a certificate as anonymous", async () => {
    const { address, callers } = await serve();
    expect(await dial(address).echo("")).toBe("anonymous");
    expect(callers).toMatchObject([
      { transport: "tcp", address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) },
    ]);
    expect(callers[0]?.svid).toBeUndefined();
  });

  test("knows a caller by its SVID, with and without an intermediate CA", async () => {
    const { address, callers } = await serve();
    for (const intermediate of [false, true]) {
      const identity = await authority.issue(agentId, { intermediate });
      expect(await dial(address, { identity }).echo("")).toBe(agentId);
      const leaf = parseCertificate(identity.chain[0] ?? new Uint8Array());
      expect(callers.at(-1)?.svid).toMatchObject({
        id: agentId,
        serialNumber: leaf.serialNumber,
        expiresAt: leaf.notAfter,
      });
      expect(callers.at(-1)?.svid?.chain.map((der) => Buffer.from(der).toString("hex"))).toEqual(
        identity.chain.map((der) => Buffer.from(der).toString("hex")),
      );
    }
  });

  const refusals: readonly [string, () => Promise<TlsIdentity>, Partial<ServerTls>][] = [
    ["of an unknown CA", () => stranger.issue(agentId), {}],
    ["that has expired", () => authority.issue(agentId, { nowSeconds: 1_800_000_000 - 7_200 }), {}],
    ["that is not valid yet", () => authority.issue(agentId, { nowSeconds: 1_800_000_000 + 7_200 }), {}],
    ["of another trust domain", () => authority.issue(parseSpiffeId("spiffe://other.test/x")), {}],
    ["whose ID isn't accepted", () => authority.issue(agentId), { acceptId: () => false }],
  ];
  for (const [which, issue, tls] of refusals) {
    test(`ends the connection of a client with a certificate ${which}, unanswered`, async () => {
      const { address, callers } = await serve(tls);
      const identity = await issue();
      const error = await failureOf(dial(address, { identity }).echo(""));
      expect(error.code).toBe("UNAVAILABLE");
      expect(callers).toEqual([]);
      expect(log.lines).toContainEqual(expect.objectContaining({ message: "Client certificate refused" }));
      expect(await dial(address).echo("")).toBe("anonymous");
    });
  }

  test("speaks TLS 1.2 and 1.3 with h2, and nothing older", async () => {
    const { port } = await serve();
    for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
      const socket = await handshake(port, { minVersion: version, maxVersion: version });
      expect([socket.getProtocol(), socket.alpnProtocol]).toEqual([version, "h2"]);
      socket.destroy();
    }
    const old = handshake(port, { minVersion: "TLSv1", maxVersion: "TLSv1.1" });
    expect(await failureOf(old)).toBeInstanceOf(SpireError);
  });

  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    test(`resumes no ${version} session: a second connection without the key is anonymous`, async () => {
      const identity = pemOf(await authority.issue(agentId));
      const versions = { minVersion: version, maxVersion: version };
      // The very same client does resume at a server that lets it.
      const careless = createServer({
        ...pemOf(serverIdentity),
        requestCert: true,
        rejectUnauthorized: false,
      });
      careless.on("secureConnection", (socket) => socket.write("hello"));
      await new Promise<void>((resolve) => careless.listen(0, "127.0.0.1", resolve));
      const address = careless.address();
      const carelessPort = typeof address === "object" && address ? address.port : 0;
      const control = await reconnect(carelessPort, versions, identity);
      expect(control.isSessionReused()).toBe(true);
      control.destroy();
      careless.close();

      const { port } = await serve();
      const second = await reconnect(port, versions, identity);
      expect(second.isSessionReused()).toBe(false);
      expect(await echoOver(second)).toBe("anonymous");
    });
  }

  test("takes no key exchange but a post-quantum one where that is asked for, also with a new identity", async () => {
    const lax = await serve();
    const { address, port } = await serve({ requirePqKem: true });
    for (let identities = 0; identities < 2; identities += 1) {
      for (const ecdhCurve of ["X25519", "P-256"]) {
        (await handshake(lax.port, { ecdhCurve })).destroy();
        expect(await failureOf(handshake(port, { ecdhCurve }))).toBeInstanceOf(SpireError);
      }
      expect(await failureOf(handshake(port, { maxVersion: "TLSv1.2" }))).toBeInstanceOf(SpireError);
      const socket = await handshake(port, { ecdhCurve: "X25519MLKEM768" });
      expect(socket.getProtocol()).toBe("TLSv1.3");
      socket.destroy();
      const identity = await authority.issue(agentId);
      expect(await dial(address, { identity }).echo("")).toBe(agentId);
      serverIdentity = await authority.issue(serverId);
      for (const changed of identityListeners) changed();
    }
  });

  test("shows a new identity to new connections, and keeps those that stand", async () => {
    const { address, port } = await serve();
    const client = dial(address);
    const before = await shownSerial(port);
    await client.echo("");
    serverIdentity = await authority.issue(serverId);
    for (const changed of identityListeners) changed();
    const after = await shownSerial(port);
    expect(after).not.toBe(before);
    expect(after).toBe(parseCertificate(serverIdentity.chain[0] ?? new Uint8Array()).serialNumber);
    expect(await client.echo("")).toBe("anonymous");
    expect(await dial(address).echo("")).toBe("anonymous");
  });

  test("asks old connections to go without failing a call", async () => {
    const { address, callers } = await serve({}, { maxConnectionAgeMs: 50 });
    const client = dial(address);
    const stream = client.watch("")[Symbol.asyncIterator]();
    await stream.next();
    const connections = () => new Set(callers.map((caller) => caller.address)).size;
    while (connections() < 4) await client.echo("");
    await stream.return?.();
  });

  test("asks a client to connect anew before the SVID that it showed ends, without failing a call", async () => {
    const { address, callers } = await serve();
    const client = dial(address, { identity: await authority.issue(agentId) });
    const connections = () => new Set(callers.map((caller) => caller.address)).size;
    await client.echo("");
    await clock.advance(3_598_000);
    await client.echo("");
    expect(connections()).toBe(1);
    await clock.advance(1_000);
    while (connections() < 2) expect(await client.echo("")).toBe(agentId);
  });

  test("ends connections that never finish their handshake, also when it closes", async () => {
    const { port } = await serve();
    const slow = connectTcp(port, "127.0.0.1");
    await new Promise((resolve) => slow.once("connect", resolve));
    // A later connection is served, so the slow one has been accepted.
    await shownSerial(port);
    const closed = new Promise((resolve) => slow.resume().once("close", resolve));
    await clock.advance(20_000);
    await closed;
    const another = connectTcp(port, "127.0.0.1");
    await new Promise((resolve) => another.once("connect", resolve));
    await shownSerial(port);
    const ended = new Promise((resolve) => another.resume().once("close", resolve));
    await listeners[0]?.close(0);
    await ended;
  });

  test("follows no identity once closed, and its port is free again", async () => {
    const { port } = await serve();
    expect(identityListeners.size).toBe(1);
    await listeners[0]?.close();
    expect(identityListeners.size).toBe(0);
    const again = await listenTls({
      host: "127.0.0.1",
      port,
      log,
      services: [],
      tls: {
        identity: () => serverIdentity,
        onIdentityChange: () => () => {},
        bundle: () => undefined,
        clock,
      },
    });
    listeners.push(again);
    expect(again.address).toBe(`127.0.0.1:${port}`);
  });

  test("names the address that is taken", async () => {
    const { port, address } = await serve();
    const tls = {
      identity: () => serverIdentity,
      onIdentityChange: () => () => {},
      bundle: () => undefined,
      clock,
    };
    const error = await failureOf(listenTls({ host: "127.0.0.1", port, log, services: [], tls }));
    expect(error).toMatchObject({ code: "UNAVAILABLE", message: expect.stringContaining(address) });
  });
});

describe("the client", () => {
  test("refuses a server of an unknown CA, and says why", async () => {
    const { address } = await serve();
    const error = await failureOf(dial(address, { bundle: () => stranger.bundle }).echo(""));
    expect(error.code).toBe("UNAVAILABLE");
    expect(error.message).toStartWith(`could not connect to ${address}: `);
    expect(error.cause).toMatchObject({ code: "UNAUTHENTICATED" });
  });

  test("refuses a server with another ID, with and without a bundle", async () => {
    const { address } = await serve();
    for (const bundle of [() => authority.bundle, () => undefined]) {
      const error = await failureOf(dial(address, { serverId: idOf("/elsewhere"), bundle }).echo(""));
      expect(error.message).toContain(
        `the server is "${serverId}", expected "spiffe://example.org/elsewhere"`,
      );
    }
  });

  test("without a bundle takes any CA's server that names the ID", async () => {
    serverIdentity = await stranger.issue(serverId);
    const { address } = await serve();
    expect(await dial(address, { bundle: () => undefined }).echo("")).toBe("anonymous");
  });

  test("asks for the bundle anew at each connection, and recovers when it holds again", async () => {
    const { address } = await serve();
    let bundle = stranger.bundle;
    const client = dial(address, { bundle: () => bundle });
    expect((await failureOf(client.echo(""))).code).toBe("UNAVAILABLE");
    bundle = authority.bundle;
    let answer = "";
    while (answer === "") answer = await client.echo("").catch(() => "");
    expect(answer).toBe("anonymous");
  });

  test("takes host names, and ignores those in the certificate", async () => {
    const { port } = await serve();
    expect(await dial(`localhost:${port}`).echo("")).toBe("anonymous");
  });

  test("says that nobody listens, once", async () => {
    const { address } = await serve();
    await listeners.pop()?.close();
    const error = await failureOf(dial(address).echo(""));
    expect(error.code).toBe("UNAVAILABLE");
    expect(error.message).toBe(`could not connect to ${address}: connect ECONNREFUSED ${address}`);
    expect(error.cause).toBeUndefined();
  });

  test("says that nobody listens also where it refused the server before", async () => {
    const { address } = await serve();
    const client = dial(address, { bundle: () => stranger.bundle });
    expect((await failureOf(client.echo(""))).message).not.toContain("ECONNREFUSED");
    await listeners.pop()?.close();
    let message = "";
    while (!message.includes("ECONNREFUSED")) ({ message } = await failureOf(client.echo("")));
    expect(message).toBe(`could not connect to ${address}: connect ECONNREFUSED ${address}`);
  });

  test("gives up on a handshake that doesn't end", async () => {
    const accepted = createGate();
    const silent = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: () => accepted.resolve(), data() {} },
    });
    const failing = failureOf(dial(`127.0.0.1:${silent.port}`).echo(""));
    await accepted.promise;
    await clock.advance(20_000);
    expect((await failing).message).toContain("the TLS handshake did not end in time");
    silent.stop(true);
  });
});

function handshake(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { port, host: "127.0.0.1", ALPNProtocols: ["h2"], rejectUnauthorized: false, ...options },
      () => resolve(socket),
    );
    socket.on("error", reject);
  });
}

/** Connects with a certificate, then again with nothing but the session of the first connection. */
async function reconnect(
  port: number,
  options: ConnectionOptions,
  identity: ConnectionOptions,
): Promise<TLSSocket> {
  let session: Buffer | undefined;
  const first = await handshake(port, { ...options, ...identity });
  first.on("session", (ticket) => {
    session = ticket;
  });
  // TLS 1.3 tickets come after the handshake, but before the first data.
  await new Promise((resolve) => first.once("data", resolve));
  session ??= first.getSession();
  first.destroy();
  return handshake(port, { ...options, ...(session && { session }) });
}

/** One call of Echo by hand; returns its answer. */
async function echoOver(socket: TLSSocket): Promise<string> {
  const session = connectHttp2("https://localhost", { createConnection: () => socket });
  const stream = session.request({
    ":method": "POST",
    ":path": testDefinition.echo.path,
    "content-type": "application/grpc",
    te: "trailers",
  });
  stream.end(Buffer.alloc(5));
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  session.destroy();
  return Buffer.concat(chunks).subarray(5).toString();
}

async function shownSerial(port: number): Promise<string> {
  const socket = await handshake(port);
  const { raw } = socket.getPeerCertificate(true);
  socket.destroy();
  return parseCertificate(raw).serialNumber;
}
