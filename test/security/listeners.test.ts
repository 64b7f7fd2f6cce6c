/** Strangers at the HTTP listeners: connections that say nothing, that come by the hundred, and that outlive their right. */
import { afterEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { createManualClock, systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { RotationService } from "../../src/rpc/gen/spire/server/rotation/v1/rotation.ts";
import { pemOf } from "../../src/rpc/tls.ts";
import { listenBundleEndpoint } from "../../src/server/federation/bundle-endpoint.ts";
import { listenHealth } from "../../src/telemetry/health.ts";
import { listenPrometheus, type PrometheusTls } from "../../src/telemetry/prometheus-listener.ts";
import { createDomain } from "../server/endpoints.ts";
import { startTestServer } from "../server/running.ts";

const trustDomain = parseTrustDomain("example.org");
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Stranger {
  readonly socket: Socket;
  readonly closed: Promise<void>;
}

async function open(port: number): Promise<Stranger> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  closers.push(() => socket.destroy());
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.resume();
  return { socket, closed };
}

/** Puts the clock forward until the promise is settled, so that it doesn't matter when a connection was taken. */
async function passing(clock: ReturnType<typeof createManualClock>, until: Promise<void>): Promise<void> {
  let isOver = false;
  void until.then(() => {
    isOver = true;
  });
  while (!isOver) await clock.advance(1_000);
}

const portOf = (address: string): number => Number(address.split(":")[1]);

async function prometheus(clock = createManualClock(Date.now()), tls: Partial<PrometheusTls> = {}) {
  const identity = await (await createDomain(trustDomain)).identity("/spire/server");
  const listener = await listenPrometheus({
    host: "127.0.0.1",
    port: 0,
    tls: { context: () => pemOf(identity), onChange: () => () => {}, ...tls },
    text: () => "a 1\n",
    clock,
    log: nullLogger,
  });
  return { port: portOf(listener.address), close: listener.close, clock };
}

describe("metrics", () => {
  test("a client that never begins TLS is ended", async () => {
    const { port, close, clock } = await prometheus();
    closers.push(close);
    const { closed } = await open(port);
    await passing(clock, closed);
  });

  test("nor does it hold up the listener's end", async () => {
    const { port, close } = await prometheus();
    const { closed } = await open(port);
    await close();
    await closed;
  });

  test("of many connections the oldest go", async () => {
    const { port, close } = await prometheus();
    closers.push(close);
    const first = await open(port);
    for (let count = 0; count < 100; count += 1) await open(port);
    await first.closed;
  });

  test("no session is resumed, as it would have the certificate and the verdict of the connection before it", async () => {
    const { port, close } = await prometheus();
    closers.push(close);
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      let session: Buffer | undefined;
      for (const isSecond of [false, true]) {
        const options = { port, host: "127.0.0.1", rejectUnauthorized: false, maxVersion };
        const socket = connectTls({ ...options, ...(session && { session }) });
        closers.push(() => socket.destroy());
        socket.on("session", (made) => {
          session = made;
        });
        await new Promise((resolve) => socket.once("secureConnect", resolve));
        socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        await new Promise((resolve) => socket.once("data", resolve));
        session ??= socket.getSession();
        if (isSecond) expect(socket.isSessionReused()).toBe(false);
      }
    }
  });

  test("a right that ended while the connection stood counts no more", async () => {
    let isAllowed = true;
    const { port, close } = await prometheus(undefined, {
      verify() {
        if (!isAllowed) throw new SpireError("UNAUTHENTICATED", "the SVID has expired");
      },
    });
    closers.push(close);
    const socket: TLSSocket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false });
    closers.push(() => socket.destroy());
    let text = "";
    const answered = Promise.withResolvers<void>();
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      text += bytes;
      if (text.includes("a 1\n")) answered.resolve();
    });
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await answered.promise;
    isAllowed = false;
    text = "";
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await closed;
    expect(text).toBe("");
  });
});

describe("health checks", () => {
  async function health(clock = createManualClock(Date.now())) {
    const check = async () => ({ live: true, ready: true });
    const where = { host: "127.0.0.1", port: 0, livePath: "/live", readyPath: "/ready" };
    const listener = await listenHealth({ ...where, checks: { server: check }, clock, log: nullLogger });
    closers.push(() => listener.close());
    return { ...listener, port: portOf(listener.address), clock };
  }
  const question = "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";

  test("end a client that never asks, one that asks byte by byte, and one that asks no more", async () => {
    for (const begin of ["", "GET /rea", question]) {
      const { port, clock } = await health();
      const { socket, closed } = await open(port);
      const answered = new Promise((resolve) => socket.once("data", resolve));
      if (begin !== "") socket.write(begin);
      if (begin === question) await answered;
      await passing(clock, closed);
    }
  });

  test("of many connections the oldest go, and who asks then is answered", async () => {
    const { port, address } = await health();
    const first = await open(port);
    for (let count = 0; count < 100; count += 1) await open(port);
    await first.closed;
    expect((await fetch(`http://${address}/ready`)).status).toBe(200);
  });

  test("nor is the listener's end held up", async () => {
    const { port, close } = await health();
    const { closed } = await open(port);
    await close();
    await closed;
  });
});

describe("the bundle endpoint", () => {
  test("has the oldest go of many connections, and answers on", async () => {
    const domain = await createDomain(trustDomain);
    const pair = pemOf(await domain.identity("/spire/server"));
    const endpoint = await listenBundleEndpoint({
      host: "127.0.0.1",
      port: 0,
      refreshHintSeconds: 300,
      certificate: { current: () => pair, onChange: () => () => {}, start() {}, stop: async () => {} },
      bundle: () => domain.bundle,
      maxConnections: 5,
      clock: systemClock,
      log: nullLogger,
    });
    closers.push(() => endpoint.close());
    const strangers: Stranger[] = [];
    for (let count = 0; count < 6; count += 1) strangers.push(await open(portOf(endpoint.address)));
    await strangers[0]?.closed;
    const answer = await fetch(`https://${endpoint.address}/`, { tls: { rejectUnauthorized: false } });
    expect(answer.status).toBe(200);
  });
});

test("health checks leave nothing behind that a rotation of authorities waits for", async () => {
  const health = { host: "127.0.0.1", port: 0, livePath: "/live", readyPath: "/ready" };
  const running = await startTestServer({ health });
  closers.push(() => running.close());
  expect((await fetch(`http://${running.server.healthAddress}/ready`)).status).toBe(200);
  const api = running.local.client(RotationService);
  await api.startRotation({
    kinds: ["x509"],
    emergency: false,
    ignoreMinted: false,
    ignoreDownstream: false,
  });
  for await (const { stage, waitingFor } of api.watchRotation({})) {
    expect(waitingFor).toEqual([]);
    if (stage === "done") break;
  }
});
