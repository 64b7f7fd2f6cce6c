/** Workloads that are gone, nobody, or ask wrongly: what the Workload API's socket gives them. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import { SpireError } from "../../src/core/errors.ts";
import type { Channel } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { Client } from "../../src/rpc/service.ts";
import type { DevReady, Running } from "../dev/program.ts";
import { failureOf } from "../server/failure.ts";
import { entryMessage } from "../server/running.ts";
import {
  encodeCall,
  encodeFrame,
  encodeOpening,
  flags,
  frameTypes,
  preface,
  workloadApiPath,
} from "./raw-http2.ts";
import { asWorkload, createWorld, grant, openStream, pathsOf, stop, uid, type World } from "./world.ts";

type WorkloadApi = Client<typeof SpiffeWorkloadAPIService>;

let world: World;
let running: Running;
let ready: DevReady;
let channel: Channel;
let api: WorkloadApi;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

async function start(selector = `unix:uid:${uid}`): Promise<void> {
  ({ running, ready } = await world.dev(["--entry", `/web=${selector}`]));
  channel = world.dial(ready.workload_api_socket);
  api = channel.client(SpiffeWorkloadAPIService);
}

const agentPath = () => new URL(ready.agent_id).pathname;

/** Each method once, as it answers first. */
const calls: Readonly<Record<string, (options: { metadata?: Record<string, string> }) => Promise<unknown>>> =
  {
    FetchX509SVID: (options) => first(api.fetchX509Svid({}, options)),
    FetchX509Bundles: (options) => first(api.fetchX509Bundles({}, options)),
    FetchJWTSVID: (options) => api.fetchJwtsvid({ audience: ["a"], spiffeId: "" }, options),
    FetchJWTBundles: (options) => first(api.fetchJwtBundles({}, options)),
    ValidateJWTSVID: (options) => api.validateJwtsvid({ audience: "a", svid: "a.b.c" }, options),
  };

async function first<T>(stream: AsyncIterable<T>): Promise<T> {
  for await (const message of stream) return message;
  throw new Error("the stream ended without a message");
}

async function expectServed(): Promise<void> {
  const stream = openStream(world.dial(ready.workload_api_socket));
  expect(pathsOf(await stream.next())).toContain("/web");
  await stream.close();
}

describe("a process that is gone", () => {
  test("leaves its connection to a child, and that gets nothing more", async () => {
    await start();
    const local = world.dial(ready.server_socket);
    const workload = world.run([
      process.execPath,
      join(import.meta.dir, "heir.ts"),
      ready.workload_api_socket,
    ]);
    const { pid } = JSON.parse(await workload.out.next((line) => line.includes('"pid"')));
    workload.kill("SIGKILL");
    expect(await workload.ended).toBe("SIGKILL");

    const other = openStream(world.dial(ready.workload_api_socket));
    await other.next();
    await grant(local, agentPath(), "/after");
    await other.until((update) => pathsOf(update).includes("/after"));
    // The stream that was open ends instead of telling.
    const endOf = async (streamId: number) => {
      for (;;) {
        const line: unknown = JSON.parse(await workload.out.next());
        const frame = line as { type?: number; flags?: number; streamId?: number };
        expect(frame.type).not.toBe(frameTypes.data);
        if (frame.streamId === streamId && ((frame.flags ?? 0) & flags.endStream) !== 0) return;
      }
    };
    await endOf(1);
    // And the heir is nobody, whatever it asks.
    process.kill(pid, "SIGUSR1");
    await endOf(3);

    await grant(local, agentPath(), "/later");
    await other.until((update) => pathsOf(update).includes("/later"));
    await stop(running);
    const said = (await workload.out.all()).trimEnd().split("\n");
    expect(said.at(-1)).toBe('{"over":true}');
    const frames = said.map((line) => JSON.parse(line)).filter(({ type }) => type === frameTypes.data);
    expect(frames).toEqual([]);
  });
});

const noIdentity = { code: "PERMISSION_DENIED", message: "no identity issued" } as const;

describe("a process that matches nothing", () => {
  test("is told so by each method, and served as soon as an entry is for it", async () => {
    await start("unix:uid:4294967");
    for (const [name, call] of Object.entries(calls)) {
      const { code, message } = await failureOf(call(asWorkload));
      // Anybody may have a token looked at; this one is none.
      if (name === "ValidateJWTSVID") expect(code).toBe("INVALID_ARGUMENT");
      else expect({ name, code, message }).toEqual({ name, ...noIdentity });
    }
    await grant(world.dial(ready.server_socket), agentPath(), "/web");
    // The agent is told in its own time; until then the answer is the same.
    for (;;) {
      const answer = await openStream(channel)
        .next()
        .catch((error: unknown) => SpireError.from(error));
      if (!(answer instanceof SpireError)) {
        expect(pathsOf(answer)).toEqual(["/web"]);
        break;
      }
      expect(answer).toMatchObject(noIdentity);
    }
    await stop(running);
  });

  test("as soon as its last entry is gone, its stream ends", async () => {
    await start();
    const stream = openStream(channel);
    await stream.next();
    const ids = ready.entries.map(({ id }) => id);
    await world.dial(ready.server_socket).client(EntryService).batchDeleteEntry({ ids });
    expect(await failureOf(stream.next())).toMatchObject(noIdentity);
    await stop(running);
  });
});

describe("a call without the security header", () => {
  beforeEach(() => start());

  /** Status of a call that is made without any gRPC library. */
  function rawStatus(method: string, headers: Record<string, string | string[]>) {
    return new Promise<{ status: unknown; message: unknown }>((resolve, reject) => {
      const session = connectHttp2("http://localhost", {
        createConnection: () => connect(ready.workload_api_socket),
      });
      session.on("error", reject);
      const call = session.request({
        ":method": "POST",
        ":path": workloadApiPath(method),
        "content-type": "application/grpc",
        te: "trailers",
        ...headers,
      });
      const note = (fields: Record<string, unknown>) => {
        if (fields["grpc-status"] === undefined) return;
        resolve({
          status: Number(fields["grpc-status"]),
          message: decodeURIComponent(String(fields["grpc-message"])),
        });
        session.destroy();
      };
      call.on("response", note);
      call.on("trailers", note);
      call.on("error", reject);
      call.on("data", () => {
        resolve({ status: 0, message: "" });
        session.destroy();
      });
      call.end(Buffer.alloc(5));
    });
  }

  const refusal = { status: 3, message: "security header missing from request" };

  test.each(Object.keys(calls))("%s is refused", async (method) => {
    expect(await rawStatus(method, {})).toEqual(refusal);
    for (const value of ["", "false", "TRUE", "1", "true,true", ["true", "true"]]) {
      expect(await rawStatus(method, { "workload.spiffe.io": value })).toEqual(refusal);
    }
    expect((await rawStatus(method, { "workload.spiffe.io": "true" })).message).not.toBe(refusal.message);
    await stop(running);
  });
});

describe("a request", () => {
  beforeEach(() => start());
  afterEach(async () => {
    await expectServed();
    await stop(running);
    expect(await running.err.all()).toBe("");
  });

  test.each([[[]], [[""]], [["", ""]]])(
    "for a JWT-SVID with the audience %j is refused",
    async (audience) => {
      const failure = await failureOf(api.fetchJwtsvid({ audience, spiffeId: "" }, asWorkload));
      expect(failure).toMatchObject({ code: "INVALID_ARGUMENT", message: "audience must be specified" });
    },
  );

  test("over 4 MiB is refused, and its connection goes on", async () => {
    const svid = "a".repeat(4 * 1024 * 1024 + 1);
    const failure = await failureOf(api.validateJwtsvid({ audience: "a", svid }, asWorkload));
    expect(failure.code).toBe("RESOURCE_EXHAUSTED");
    await calls["FetchX509SVID"]?.(asWorkload);
  });

  test("over 4 MiB to the server creates nothing", async () => {
    const local = world.dial(ready.server_socket).client(EntryService);
    const dnsNames = Array.from(
      { length: 40_000 },
      (_, at) => `${at}.${"x".repeat(60)}.${"y".repeat(60)}.test`,
    );
    const failure = await failureOf(
      local.batchCreateEntry({ entries: [entryMessage({ dnsNames })], outputMask: undefined }),
    );
    expect(failure.code).toBe("RESOURCE_EXHAUSTED");
    expect(await local.countEntries({ filter: undefined })).toEqual({ count: 1 });
  });

  test("that claims to have 4 GiB, and ends, harms nobody", async () => {
    const call = encodeCall(1, workloadApiPath("ValidateJWTSVID"), { "workload.spiffe.io": "true" });
    const claim = Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    const headersOnly = call.subarray(0, call.length - 14);
    await sendAndEnd(
      Buffer.concat([encodeOpening(), headersOnly, encodeFrame(frameTypes.data, flags.endStream, 1, claim)]),
    );
  });

  /** Resolves when the other side has ended the connection, after this side did. */
  function sendAndEnd(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect(ready.workload_api_socket);
      socket.on("error", () => {});
      socket.on("close", () => resolve());
      socket.resume();
      socket.end(bytes);
    });
  }

  test.each([
    ["random bytes", () => randomBytes(10_000)],
    ["HTTP/1.1", () => Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
    ["a TLS record", () => Buffer.concat([Buffer.from([22, 3, 1, 2, 0]), randomBytes(512)])],
    ["half a preface", () => preface.subarray(0, 10)],
    ["a preface and garbage", () => Buffer.concat([preface, randomBytes(10_000)])],
    [
      "a frame that is too long",
      () => Buffer.concat([encodeOpening(), encodeFrame(0, 0, 1, randomBytes(20_000))]),
    ],
    [
      "frames of unknown types",
      () => Buffer.concat([encodeOpening(), encodeFrame(99, 255, 7, randomBytes(100))]),
    ],
    [
      "headers that can't be read",
      () => Buffer.concat([encodeOpening(), encodeFrame(1, 4, 1, randomBytes(200))]),
    ],
    ["nothing", () => Buffer.alloc(0)],
  ])("of %s is the end of its connection alone", async (_what, bytes) => {
    for (let time = 0; time < 20; time++) await sendAndEnd(bytes());
  });
});
