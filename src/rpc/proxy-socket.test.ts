/** Connections through a load balancer, over real sockets: who they count for, and whose word is taken. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createManualClock, type ManualClock } from "../core/clock.ts";
import { parseIpRanges } from "../core/ip-address.ts";
import { parseSpiffeId, parseTrustDomain } from "../core/spiffe-id.ts";
import { type Channel, dialTls } from "./dial.ts";
import { type Listener, listenTls } from "./listen.ts";
import { bindService } from "./service.ts";
import { createRecordingLogger, createTestAuthority, type TestAuthority, testDefinition } from "./testing.ts";

const serverId = parseSpiffeId("spiffe://example.org/spire/server");
const line = Buffer.from("PROXY TCP4 192.0.2.7 198.51.100.1 4711 8081\r\n", "latin1");
const binary = Buffer.from(
  "0d0a0d0a000d0a515549540a2111000cc0000207c63364011267 1f91".replace(" ", ""),
  "hex",
);
const localCommand = Buffer.from("0d0a0d0a000d0a515549540a20000000", "hex");

let clock: ManualClock;
let authority: TestAuthority;
let log: ReturnType<typeof createRecordingLogger>;
let listener: Listener;
let proxies: Server[];
let sockets: Socket[];
let channels: Channel[];

beforeEach(async () => {
  clock = createManualClock(1_800_000_000_000);
  authority = await createTestAuthority(parseTrustDomain("example.org"), 1_800_000_000);
  log = createRecordingLogger();
  proxies = [];
  sockets = [];
  channels = [];
});
afterEach(async () => {
  for (const channel of channels) channel.close();
  for (const socket of sockets) socket.destroy();
  for (const proxy of proxies) proxy.close();
  await listener.close(0);
});

async function serve(trusted: readonly string[], maxUnproven?: number): Promise<void> {
  const identity = await authority.issue(serverId);
  listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    log,
    services: [
      bindService(testDefinition, {
        echo: async (_, { caller }) => caller.address,
        async *watch() {
          yield "";
        },
      }),
    ],
    tls: {
      identity: () => identity,
      onIdentityChange: () => () => {},
      bundle: () => authority.bundle,
      clock,
    },
    trustedProxies: parseIpRanges(trusted),
    ...(maxUnproven !== undefined && { maxUnproven }),
  });
}

/** A load balancer that begins each connection with these pieces; the client's first bytes come with the last. */
async function startProxy(pieces: readonly Buffer[]): Promise<string> {
  const proxy = createServer((client) => {
    const server = connect({ port: listener.port ?? 0, host: "127.0.0.1" });
    sockets.push(client, server);
    server.setNoDelay(true);
    client.on("error", () => server.destroy());
    server.on("error", () => client.destroy());
    const begin = async () => {
      const [last = Buffer.alloc(0), ...before] = [...pieces].reverse();
      for (const piece of before.reverse()) {
        await new Promise((resolve) => server.write(piece, resolve));
        await new Promise((resolve) => setImmediate(resolve));
      }
      const [hello] = await once(client, "data");
      server.write(Buffer.concat([last, hello]));
      client.pipe(server).pipe(client);
    };
    server.once("connect", () => void begin());
  });
  proxies.push(proxy);
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const address = proxy.address();
  return `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

async function callerThrough(pieces: readonly Buffer[], identity = false): Promise<string> {
  const address = pieces.length > 0 ? await startProxy(pieces) : listener.address;
  const own = identity
    ? { identity: await authority.issue(parseSpiffeId("spiffe://example.org/agent")) }
    : {};
  const channel = dialTls({ address, bundle: () => authority.bundle, serverId, clock, ...own });
  channels.push(channel);
  return channel.client(testDefinition).echo("");
}

const openRaw = async (): Promise<Socket> => {
  const socket = connect({ port: listener.port ?? 0, host: "127.0.0.1" });
  sockets.push(socket);
  socket.on("error", () => {});
  socket.resume();
  await once(socket, "connect");
  return socket;
};

const closed = (socket: Socket) => new Promise((resolve) => socket.once("close", resolve));

describe("a header from a trusted proxy names the caller", () => {
  test.each([
    ["version 1", line],
    ["version 2", binary],
  ])("%s", async (_what, header) => {
    await serve(["127.0.0.0/8"]);
    expect(await callerThrough([header])).toBe("192.0.2.7:4711");
    expect(await callerThrough([header], true)).toBe("192.0.2.7:4711");
  });

  test.each([
    ["version 1", line],
    ["version 2", binary],
  ])("%s, wherever it is cut", async (_what, header) => {
    await serve(["127.0.0.0/8"]);
    for (let at = 1; at < header.length; at++) {
      expect(await callerThrough([header.subarray(0, at), header.subarray(at)])).toBe("192.0.2.7:4711");
    }
  });

  test("also when what follows it is cut", async () => {
    await serve(["127.0.0.0/8"]);
    expect(await callerThrough([line, Buffer.alloc(0)])).toBe("192.0.2.7:4711");
  });

  test("also byte by byte", async () => {
    await serve(["127.0.0.0/8"]);
    expect(await callerThrough(Array.from(line, (byte) => Buffer.of(byte)))).toBe("192.0.2.7:4711");
  });
});

test("a proxy that speaks for itself, or sends no header, is the caller", async () => {
  await serve(["127.0.0.0/8"]);
  expect(await callerThrough([localCommand])).toStartWith("127.0.0.1:");
  expect(await callerThrough([])).toStartWith("127.0.0.1:");
});

test("nobody else's header is believed, and callers without one are served", async () => {
  await serve(["192.0.2.0/24"]);
  for (const header of [line, binary, Buffer.from("P")]) {
    const socket = await openRaw();
    const over = closed(socket);
    socket.write(header);
    await over;
  }
  expect(await callerThrough([])).toStartWith("127.0.0.1:");
  const refused = log.lines.filter(({ message }) => message === "PROXY header refused");
  expect(refused).toHaveLength(3);
  expect(String(refused[0]?.["error"])).toContain("not in proxy_protocol_trusted_cidrs");
});

test.each([
  ["a malformed header", Buffer.from("PROXY TCP4 here there 1 2\r\n")],
  ["a second header", Buffer.concat([line, line])],
  ["no TLS after it", Buffer.concat([line, Buffer.alloc(100, 0x41)])],
])("%s ends the connection alone", async (_what, bytes) => {
  await serve(["127.0.0.0/8"]);
  const socket = await openRaw();
  const over = closed(socket);
  socket.write(bytes);
  await over;
  expect(await callerThrough([line])).toBe("192.0.2.7:4711");
});

test("a header that doesn't end is waited for as long as a handshake", async () => {
  await serve(["127.0.0.0/8"]);
  const socket = await openRaw();
  const over = closed(socket);
  socket.write(line.subarray(0, 20));
  // Served later, so the listener has the one before.
  expect(await callerThrough([line])).toBe("192.0.2.7:4711");
  await clock.advance(20_000);
  await over;
});

test("the end of the listener ends connections within their header", async () => {
  await serve(["127.0.0.0/8"]);
  const socket = await openRaw();
  const over = closed(socket);
  socket.write(line.subarray(0, 20));
  expect(await callerThrough([line])).toBe("192.0.2.7:4711");
  await listener.close(0);
  await over;
});

describe("connections without an SVID are limited", () => {
  test("by ending the oldest, and those with one stand", async () => {
    await serve(["127.0.0.0/8"], 3);
    const identity = await authority.issue(parseSpiffeId("spiffe://example.org/agent"));
    const target = { address: listener.address, bundle: () => authority.bundle, serverId, clock, identity };
    const channel = dialTls(target);
    channels.push(channel);
    const first = await channel.client(testDefinition).echo("");
    const idle = [await openRaw(), await openRaw(), await openRaw()];
    const over = idle.map(closed);
    expect(await callerThrough([])).toStartWith("127.0.0.1:");
    await over[0];
    const more = [await openRaw(), await openRaw(), await openRaw()];
    await Promise.all(over);
    expect(more.map((socket) => socket.destroyed)).toEqual([false, false, false]);
    // Still the same connection.
    expect(await channel.client(testDefinition).echo("")).toBe(first);
    expect(log.lines.filter(({ message }) => message.startsWith("Too many connections"))).toHaveLength(1);
  });
});
