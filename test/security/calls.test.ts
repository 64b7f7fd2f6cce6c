/** What a hostile client can make of calls: work that nobody allowed, messages that grow, connections that hold on. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ClientHttp2Session, connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { SpireError } from "../../src/core/errors.ts";
import { parseSpiffeId } from "../../src/core/spiffe-id.ts";
import { refuseAtOnce } from "../../src/rpc/access.ts";
import { type Listener, listenUnix, type UnixOptions } from "../../src/rpc/listen.ts";
import { bindService, type Call, type Handlers } from "../../src/rpc/service.ts";
import {
  createGate,
  createRecordingLogger,
  createWorkspace,
  testDefinition,
  type Workspace,
} from "../../src/rpc/testing.ts";

let workspace: Workspace;
let path: string;
let listener: Listener | undefined;
let sessions: ClientHttp2Session[];

beforeEach(() => {
  workspace = createWorkspace();
  path = workspace.file("api.sock");
  sessions = [];
});
afterEach(async () => {
  for (const session of sessions) session.destroy();
  await listener?.close(0);
  listener = undefined;
  workspace.remove();
});

async function serve(handlers: Handlers<typeof testDefinition>, options: Partial<UnixOptions> = {}) {
  const services = [bindService(testDefinition, handlers)];
  listener = await listenUnix({ path, mode: 0o700, services, log: createRecordingLogger(), ...options });
}

function connectClient(): ClientHttp2Session {
  const session = connectHttp2("http://localhost", { createConnection: () => connect(path) });
  session.on("error", () => {});
  sessions.push(session);
  return session;
}

const headersOf = (method: string, more: Record<string, string> = {}) => ({
  ":method": "POST",
  ":path": `/test.v1.Test/${method}`,
  "content-type": "application/grpc",
  te: "trailers",
  ...more,
});

/** A message as gRPC frames it (PROTOCOL-HTTP2, "Length-Prefixed-Message"). */
function framed(message: Buffer, compressed: boolean): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed ? 1 : 0);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** The status that a call ended with. */
function statusOf(session: ClientHttp2Session, headers: Record<string, string>, body: Buffer) {
  return new Promise<string>((resolve) => {
    const stream = session.request(headers);
    let status = "";
    const note = (received: Record<string, unknown>) => {
      status = String(received["grpc-status"] ?? status);
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("error", () => {});
    stream.on("close", () => resolve(status));
    stream.resume();
    stream.end(body);
  });
}

describe("a call that ends while it waits for its turn", () => {
  test("never reaches its handler", async () => {
    const waiting = createGate();
    const turn = createGate();
    const handled: string[] = [];
    await serve(
      {
        async echo(text) {
          handled.push(text);
          return text;
        },
      },
      {
        async before(call) {
          if (handled.length > 0 || call.metadata("slow").length === 0) return {};
          waiting.resolve();
          await turn.promise;
          return {};
        },
      },
    );
    const session = connectClient();
    const stream = session.request(headersOf("Echo", { slow: "yes" }));
    const closed = new Promise((resolve) => stream.on("close", resolve));
    stream.on("error", () => {});
    stream.end(framed(Buffer.from("abandoned"), false));
    await waiting.promise;
    stream.close(constants.NGHTTP2_CANCEL);
    await closed;
    // The server has seen the cancellation once it answers a later call of the same connection.
    expect(await statusOf(session, headersOf("Echo"), framed(Buffer.from("later"), false))).toBe("0");
    turn.resolve();
    expect(await statusOf(session, headersOf("Echo"), framed(Buffer.from("last"), false))).toBe("0");
    expect(handled).toEqual(["later", "last"]);
  });
});

describe("a caller who may not call a method at all", () => {
  test("is refused before anything of the request is read", async () => {
    let decoded = 0;
    const definition = {
      echo: {
        ...testDefinition.echo,
        requestDeserialize(bytes: Buffer) {
          decoded += 1;
          return bytes.toString();
        },
      },
    };
    listener = await listenUnix({
      path,
      mode: 0o700,
      log: createRecordingLogger(),
      services: [bindService(definition, { echo: async (text) => text })],
      refuse: (call) =>
        call.metadata("allowed").length > 0 ? undefined : new SpireError("PERMISSION_DENIED", "no"),
    });
    const session = connectClient();
    const body = framed(Buffer.alloc(3 * 1024 * 1024), false);
    expect(await statusOf(session, headersOf("Echo"), body)).toBe("7");
    expect(decoded).toBe(0);
    expect(await statusOf(session, headersOf("Echo", { allowed: "yes" }), body)).toBe("0");
    expect(decoded).toBe(1);
  });

  test("is told by the table of methods, without a look at anything else", () => {
    const callBy = (method: string, caller: Partial<Call["caller"]>) =>
      refuseAtOnce({ method, caller: { transport: "tcp", address: "192.0.2.1:1", ...caller } })?.code;
    const svid = {
      id: parseSpiffeId("spiffe://example.org/spire/agent/a"),
      chain: [],
      serialNumber: "1",
      expiresAt: 0,
    };
    const sign = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";
    const attest = "/spire.api.server.agent.v1.Agent/AttestAgent";
    const list = "/spire.api.server.agent.v1.Agent/ListAgents";
    const debug = "/spire.api.server.debug.v1.Debug/GetInfo";
    expect(callBy(sign, {})).toBe("PERMISSION_DENIED");
    expect(callBy(list, {})).toBe("PERMISSION_DENIED");
    expect(callBy(debug, { svid })).toBe("PERMISSION_DENIED");
    expect(callBy(sign, { transport: "unix" })).toBe("PERMISSION_DENIED");
    expect(callBy("/spire.api.server.svid.v1.SVID/Nonsense", { svid })).toBe("PERMISSION_DENIED");
    expect(callBy(attest, {})).toBeUndefined();
    expect(callBy(list, { transport: "unix" })).toBeUndefined();
    // Whether it is an agent in good standing is for later.
    expect(callBy(sign, { svid })).toBeUndefined();
  });
});

describe("a message", () => {
  test("that unpacks to more than the limit is refused before it is unpacked", async () => {
    let handled = 0;
    await serve({
      async echo(text) {
        handled += 1;
        return String(text.length);
      },
    });
    const bomb = gzipSync(Buffer.alloc(512 * 1024 * 1024), { level: 9 });
    expect(bomb.length).toBeLessThan(1024 * 1024);
    const before = process.memoryUsage().rss;
    const session = connectClient();
    const status = await statusOf(
      session,
      headersOf("Echo", { "grpc-encoding": "gzip" }),
      framed(bomb, true),
    );
    expect(status).toBe("8");
    expect(handled).toBe(0);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 1024 * 1024);
  });
});
