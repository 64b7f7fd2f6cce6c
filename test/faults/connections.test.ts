/** Connections to the server's TCP port that are no good: garbage, halves, and those that never get on. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { systemClock } from "../../src/core/clock.ts";
import { generateKey } from "../../src/core/keys.ts";
import { serverId } from "../../src/core/spiffe-id.ts";
import { dialTls } from "../../src/rpc/dial.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { failureOf } from "../server/failure.ts";
import { attestWith, csrOf } from "../server/running.ts";
import { encodeFrame, encodeOpening, preface } from "./raw-http2.ts";
import { fetchBundle } from "./soundness.ts";
import { createWorld, exampleOrg, type ServerProcess, stop, type World } from "./world.ts";

let world: World;
let server: ServerProcess;
let port: number;

beforeAll(async () => {
  world = createWorld();
  server = world.server();
  port = await server.ready();
});
afterAll(() => world.close());

/** A new connection over TLS gets an answer. */
async function expectServed(): Promise<void> {
  const channel = dialTls({
    address: `127.0.0.1:${port}`,
    bundle: () => undefined,
    serverId: serverId(exampleOrg),
    clock: systemClock,
  });
  try {
    const bundle = await channel.client(BundleService).getBundle({ outputMask: undefined });
    expect(bundle).toEqual(await fetchBundle(world.dial(server.socket)));
  } finally {
    channel.close();
  }
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    socket.resume();
  });

function openTcp(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port }, () => resolve(socket));
    socket.once("error", reject);
  });
}

function openTls(protocols = ["h2"]): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls(
      { host: "127.0.0.1", port, ALPNProtocols: protocols, rejectUnauthorized: false },
      () => resolve(socket),
    );
    socket.once("error", reject);
  });
}

/** The first bytes of a ClientHello, in the right form and with a length that promises more. */
const helloStart = Buffer.from([22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);

describe("what no TLS begins with ends its connection alone", () => {
  test.each([
    ["random bytes", () => randomBytes(10_000)],
    ["HTTP/1.1", () => Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
    ["HTTP/2 in the clear", () => encodeOpening()],
    ["a ClientHello of garbage", () => Buffer.concat([helloStart, randomBytes(506)])],
    ["a record of an unknown kind", () => Buffer.concat([Buffer.from([99, 3, 3, 0, 50]), randomBytes(50)])],
    ["application data", () => Buffer.concat([Buffer.from([23, 3, 3, 0, 50]), randomBytes(50)])],
    ["SSL 2", () => Buffer.concat([Buffer.from([0x80, 0x2e, 1, 0, 2]), randomBytes(44)])],
  ])("%s", async (_what, bytes) => {
    for (let time = 0; time < 20; time++) {
      const socket = await openTcp();
      const over = closed(socket);
      socket.write(bytes());
      await over;
    }
    await expectServed();
  });
});

describe("what no HTTP/2 begins with, over good TLS, ends its connection alone", () => {
  test.each([
    ["random bytes", () => randomBytes(10_000)],
    ["HTTP/1.1", () => Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
    ["a preface and garbage", () => Buffer.concat([preface, randomBytes(10_000)])],
    [
      "a frame that is too long",
      () => Buffer.concat([encodeOpening(), encodeFrame(0, 0, 1, randomBytes(20_000))]),
    ],
    [
      "headers that can't be read",
      () => Buffer.concat([encodeOpening(), encodeFrame(1, 4, 1, randomBytes(200))]),
    ],
  ])("%s", async (_what, bytes) => {
    for (let time = 0; time < 20; time++) {
      const socket = await openTls();
      const over = closed(socket);
      socket.end(bytes());
      await over;
    }
    await expectServed();
  });

  test("a client that wants another protocol", async () => {
    const failed = await failureOf(
      openTls(["http/1.1"]).then(async (socket) => {
        const over = closed(socket);
        socket.end("GET / HTTP/1.1\r\n\r\n");
        await over;
        throw new Error("closed");
      }),
    );
    expect(failed.message).not.toBe("");
    await expectServed();
  });
});

describe("a client that goes in the middle", () => {
  test.each([
    ["at once", async () => Buffer.alloc(0)],
    ["after half a ClientHello", async () => helloStart],
  ])("%s, in an orderly way, is let go", async (_what, bytes) => {
    for (let time = 0; time < 20; time++) {
      const socket = await openTcp();
      const over = closed(socket);
      socket.end(await bytes());
      await over;
    }
    await expectServed();
  });

  test("of TLS, and stays half-open, is let go", async () => {
    const socket = await openTls();
    const over = closed(socket);
    socket.write(encodeOpening());
    socket.end();
    await over;
    await expectServed();
  });

  test("with a reset is let go", async () => {
    for (let time = 0; time < 20; time++) {
      const [plain, secure] = await Promise.all([openTcp(), openTls()]);
      plain.write(helloStart);
      plain.resetAndDestroy();
      secure.write(encodeOpening());
      secure.destroy();
    }
    await expectServed();
  });
});

test("a request over 4 MiB is refused", async () => {
  const channel = dialTls({
    address: `127.0.0.1:${port}`,
    bundle: () => undefined,
    serverId: serverId(exampleOrg),
    clock: systemClock,
  });
  const token = "a".repeat(4 * 1024 * 1024 + 1);
  const csr = await csrOf(await generateKey("ec-p256"));
  const failure = await failureOf(attestWith(channel.client(AgentService), token, csr));
  expect(failure.code).toBe("RESOURCE_EXHAUSTED");
  channel.close();
  await expectServed();
});

test(
  "hundreds of clients that never get on are sent away, and meanwhile the others are served",
  async () => {
    const sockets = await Promise.all(Array.from({ length: 300 }, openTcp));
    const over = sockets.map(closed);
    for (const [at, socket] of sockets.entries()) {
      // Some say nothing, some a part, some a little more now and then.
      if (at % 3 > 0) socket.write(helloStart);
      if (at % 3 === 2) drip(socket);
    }
    await expectServed();
    await Promise.all(over);
    await expectServed();
  },
  { timeout: 120_000 },
);

/** A byte now and then, as long as the connection stands. */
function drip(socket: Socket): void {
  const timer = setInterval(() => socket.write(Buffer.from([0])), 500);
  socket.on("close", () => clearInterval(timer));
}

test("clients that do nothing more don't keep the server from its end", async () => {
  const sockets = await Promise.all([openTcp(), openTcp(), openTls(), openTls()]);
  const over = sockets.map(closed);
  sockets[0]?.write(helloStart);
  sockets[2]?.write(encodeOpening());
  await expectServed();
  await stop(server);
  await Promise.all(over);
  expect(await server.err.all()).toBe("");
});
