/** HAProxy in front of the server's port: callers are who it says they are. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { parseIpRanges } from "../../src/core/ip-address.ts";
import { parseSpiffeId, parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { type Channel, dialTls } from "../../src/rpc/dial.ts";
import { type Listener, listenTls } from "../../src/rpc/listen.ts";
import { bindService } from "../../src/rpc/service.ts";
import {
  createRecordingLogger,
  createTestAuthority,
  type TestAuthority,
  testDefinition,
} from "../../src/rpc/testing.ts";
import { type TemporaryFolder, temporaryFolder } from "./folders.ts";

const serverId = parseSpiffeId("spiffe://example.org/spire/server");
/** Debian puts it where only administrators look. */
const haproxyAt = Bun.which("haproxy") ?? "/usr/sbin/haproxy";
const now = Math.floor(Date.now() / 1_000);

let folder: TemporaryFolder;
let authority: TestAuthority;
let listener: Listener;
let log: ReturnType<typeof createRecordingLogger>;
let closing: (() => unknown)[];

beforeEach(async () => {
  closing = [];
  folder = await temporaryFolder();
  log = createRecordingLogger();
  authority = await createTestAuthority(parseTrustDomain("example.org"), now);
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
      clock: systemClock,
    },
    trustedProxies: parseIpRanges(["127.0.0.1/32"]),
  });
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await listener.close(0);
  await folder[Symbol.asyncDispose]();
});

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  return port;
}

/** @param options of HAProxy's `server` line. @returns the port that it listens at, once it has found the server. */
async function startHaproxy(options: string): Promise<number> {
  const port = await freePort();
  const file = join(folder.path, "haproxy.cfg");
  await Bun.write(
    file,
    `defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen spire
  bind 127.0.0.1:${port}
  server spire 127.0.0.1:${listener.port} check inter 50ms rise 1 ${options}
`,
  );
  const haproxy = Bun.spawn([haproxyAt, "-db", "-f", file], { stdout: "ignore", stderr: "ignore" });
  closing.push(async () => {
    haproxy.kill();
    await haproxy.exited;
  });
  for (;;) {
    const probe = connect(port, "127.0.0.1");
    const isOpen = await new Promise<boolean>((resolve) => {
      probe.once("connect", () => resolve(true));
      probe.once("error", () => resolve(false));
    });
    probe.destroy();
    if (isOpen) return port;
  }
}

/** Connects from another address of this machine. @returns its own port. */
async function startClient(port: number): Promise<{ address: string; source: () => string }> {
  let source = "";
  const relay = createServer((client: Socket) => {
    const proxy = connect({ port, host: "127.0.0.1", localAddress: "127.0.0.7" });
    proxy.once("connect", () => {
      source = `127.0.0.7:${proxy.localPort}`;
    });
    proxy.on("error", () => client.destroy());
    client.on("error", () => proxy.destroy());
    client.pipe(proxy).pipe(client);
    closing.push(() => proxy.destroy());
  });
  closing.push(() => relay.close());
  return { address: `127.0.0.1:${await listen(relay)}`, source: () => source };
}

async function open(address: string, identity: boolean): Promise<Channel> {
  const own = identity
    ? { identity: await authority.issue(parseSpiffeId("spiffe://example.org/agent")) }
    : {};
  const target = { address, bundle: () => authority.bundle, serverId, clock: systemClock, ...own };
  const channel = dialTls(target);
  closing.push(() => channel.close());
  return channel;
}

test.each([
  ["version 1", "send-proxy check-send-proxy"],
  ["version 2", "send-proxy-v2 check-send-proxy"],
  ["version 2 with more facts", "send-proxy-v2 proxy-v2-options unique-id,crc32c,authority check-send-proxy"],
])("by %s", async (_what, options) => {
  const client = await startClient(await startHaproxy(options));
  for (const identity of [false, true]) {
    const channel = await open(client.address, identity);
    const caller = await channel.client(testDefinition).echo("");
    expect(caller).toBe(client.source());
  }
  expect(log.lines.filter(({ message }) => message === "PROXY header refused")).toEqual([]);
});

test("one that sends no header is the caller itself", async () => {
  const client = await startClient(await startHaproxy(""));
  const channel = await open(client.address, false);
  expect(await channel.client(testDefinition).echo("")).toStartWith("127.0.0.1:");
});
