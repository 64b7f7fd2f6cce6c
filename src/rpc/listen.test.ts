import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { createManualClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { type Channel, dialUnix } from "./dial.ts";
import { type Listener, listenUnix, type UnixOptions } from "./listen.ts";
import { bindService, type Call, type Client, EncodedMessage, type Handlers } from "./service.ts";
import {
  connectRaw,
  createGate,
  createRecordingLogger,
  createWorkspace,
  testDefinition,
  type Workspace,
} from "./testing.ts";

type TestHandlers = Handlers<typeof testDefinition>;

let workspace: Workspace;
let path: string;
let log: ReturnType<typeof createRecordingLogger>;
let listeners: Listener[];
let channels: Channel[];

beforeEach(() => {
  workspace = createWorkspace();
  path = workspace.file("api.sock");
  log = createRecordingLogger();
  listeners = [];
  channels = [];
});
afterEach(async () => {
  for (const channel of channels) channel.close();
  await Promise.all(listeners.map((listener) => listener.close(0)));
  workspace.remove();
});

async function serve(
  handlers: TestHandlers,
  options: Partial<UnixOptions> = {},
): Promise<Client<typeof testDefinition>> {
  const services = [bindService(testDefinition, handlers)];
  listeners.push(await listenUnix({ path, mode: 0o700, services, log, ...options }));
  return connectClient();
}

function connectClient(): Client<typeof testDefinition> {
  const channel = dialUnix(path);
  channels.push(channel);
  return channel.client(testDefinition);
}

const failureOf = (promise: Promise<unknown>): Promise<SpireError> =>
  promise.then(
    () => {
      throw new Error("the call did not fail");
    },
    (error: unknown) => SpireError.from(error),
  );

async function collect(messages: AsyncIterable<string>): Promise<string[]> {
  const collected: string[] = [];
  for await (const message of messages) collected.push(message);
  return collected;
}

/** Resolves when the call is over. */
const endOf = ({ signal }: Call): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

const never = new Promise<never>(() => {});

const watchHeaders = {
  ":method": "POST",
  ":path": "/test.v1.Test/Watch",
  "content-type": "application/grpc",
  te: "trailers",
};

describe("calls", () => {
  test("all three kinds carry their messages in order", async () => {
    const client = await serve({
      echo: async (text) => `re: ${text}`,
      async *watch(text) {
        for (let i = 0; i < 100; i++) yield `${text}${i}`;
      },
      async *talk(requests) {
        for await (const request of requests) yield request.toUpperCase();
      },
    });
    expect(await client.echo("hello")).toBe("re: hello");
    expect(await collect(client.watch("m"))).toEqual(Array.from({ length: 100 }, (_, i) => `m${i}`));
    const talk = client.talk();
    for (const word of ["a", "b", "c"]) {
      await talk.send(word);
      expect(await talk.receive()).toBe(word.toUpperCase());
    }
    talk.end();
    expect(await talk.receive()).toBeUndefined();
  });

  test("a conversation may send everything before it receives anything", async () => {
    const client = await serve({
      async *talk(requests) {
        let sum = 0;
        for await (const request of requests) sum += Number(request);
        yield String(sum);
      },
    });
    const talk = client.talk();
    for (let i = 1; i <= 1_000; i++) void talk.send(String(i));
    talk.end();
    expect(await talk.receive()).toBe("500500");
    expect(await talk.receive()).toBeUndefined();
  });

  test("a server may end a conversation without having read it all", async () => {
    const client = await serve({
      async *talk(requests) {
        for await (const first of requests) {
          yield first;
          break;
        }
        throw new SpireError("ABORTED", "enough");
      },
    });
    const talk = client.talk();
    await talk.send("one");
    await talk.send("two");
    expect(await talk.receive()).toBe("one");
    expect(await failureOf(talk.receive())).toMatchObject({ code: "ABORTED", message: "enough" });
  });

  test("a handler sees the caller's process, the method and the metadata", async () => {
    const seen = createGate<Call>();
    const client = await serve({
      async echo(text, call) {
        seen.resolve(call);
        return text;
      },
    });
    await client.echo("", { metadata: { "workload.spiffe.io": "true" } });
    const { method, caller, metadata } = await seen.promise.then((call) => ({
      method: call.method,
      caller: call.caller,
      metadata: (key: string) => call.metadata(key),
    }));
    expect(method).toBe("/test.v1.Test/Echo");
    expect(caller).toMatchObject({ transport: "unix", address: path });
    expect(caller.process).toMatchObject({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    expect(caller.svid).toBeUndefined();
    expect(metadata("workload.spiffe.io")).toEqual(["true"]);
    expect(metadata("other")).toEqual([]);
  });

  test("a response encoded before goes out as it is", async () => {
    const shared = new EncodedMessage(Buffer.from("shared"));
    const client = await serve({
      echo: async () => shared,
      async *watch() {
        yield shared;
        yield "own";
      },
    });
    expect(await client.echo("")).toBe("shared");
    expect(await collect(client.watch(""))).toEqual(["shared", "own"]);
  });

  test("a call of a method without a handler, or unknown, is UNIMPLEMENTED", async () => {
    const client = await serve({ echo: async (text) => text });
    expect((await failureOf(collect(client.watch("")))).code).toBe("UNIMPLEMENTED");
    const channel = dialUnix(path);
    channels.push(channel);
    const other = channel.client({ echo: { ...testDefinition.echo, path: "/other.v1.Other/Echo" } });
    expect((await failureOf(other.echo(""))).code).toBe("UNIMPLEMENTED");
  });
});

describe("failures", () => {
  const details = [{ typeUrl: "type.googleapis.com/x", value: Uint8Array.of(1, 2) }];

  test("a SpireError reaches the client whole, and isn't logged here", async () => {
    const thrown = new SpireError("PERMISSION_DENIED", "über die Grenze: nein, 100%", { details });
    const client = await serve({
      echo: () => Promise.reject(thrown),
      async *watch() {
        yield "one";
        throw thrown;
      },
    });
    for (const call of [client.echo(""), collect(client.watch(""))]) {
      const error = await failureOf(call);
      expect(error).toMatchObject({ code: thrown.code, message: thrown.message });
      expect(error.details.map(({ typeUrl, value }) => [typeUrl, ...value])).toEqual([
        ["type.googleapis.com/x", 1, 2],
      ]);
    }
    expect(log.lines).toEqual([]);
  });

  test("messages that were sent before an error reach the client before it", async () => {
    const sent = ["one", "two", "three"];
    const client = await serve({
      async *watch() {
        yield* sent;
        throw new SpireError("PERMISSION_DENIED", "no more");
      },
    });
    const received: string[] = [];
    const error = await failureOf(
      (async () => {
        for await (const message of client.watch("")) received.push(message);
      })(),
    );
    expect(received).toEqual(sent);
    expect(error.message).toBe("no more");
  });

  test("anything else is logged whole and told as INTERNAL", async () => {
    const bug = new TypeError("secret detail");
    const client = await serve({ echo: () => Promise.reject(bug) });
    expect(await failureOf(client.echo(""))).toMatchObject({ code: "INTERNAL", message: "internal" });
    expect(log.lines).toMatchObject([
      { level: "error", error: bug, method: "Echo", service: "test.v1.Test" },
    ]);
  });

  test("a request over 4 MiB is refused, and the next call is served", async () => {
    const client = await serve({ echo: async (text) => String(text.length) });
    const limit = 4 * 1024 * 1024;
    expect(await client.echo("x".repeat(limit))).toBe(String(limit));
    expect((await failureOf(client.echo("x".repeat(limit + 1)))).code).toBe("RESOURCE_EXHAUSTED");
    expect(await client.echo("x")).toBe("1");
  });

  test("a request that is not the message it should be is refused with the reason", async () => {
    const broken = {
      ...testDefinition,
      echo: {
        ...testDefinition.echo,
        requestDeserialize(): string {
          throw new Error("wire type 7");
        },
      },
    };
    let served = false;
    const services = [
      bindService(broken, {
        async echo(text) {
          served = true;
          return text;
        },
      }),
    ];
    listeners.push(await listenUnix({ path, mode: 0o700, services, log }));
    const error = await failureOf(connectClient().echo("x"));
    expect(error).toMatchObject({ code: "INTERNAL", message: "request could not be decoded: wire type 7" });
    expect(served).toBe(false);
  });

  test("the check before a handler sees call and request, may refuse, and adds to the call's log lines", async () => {
    const client = await serve(
      {
        async echo(text, call) {
          call.log.info("served");
          return text;
        },
      },
      {
        before(call, request) {
          if (request === "bad") throw new SpireError("UNAUTHENTICATED", `no ${call.method}`);
          return Promise.resolve({ authorized_as: "local" });
        },
      },
    );
    expect(await client.echo("good")).toBe("good");
    expect(await failureOf(client.echo("bad"))).toMatchObject({
      code: "UNAUTHENTICATED",
      message: "no /test.v1.Test/Echo",
    });
    expect(log.lines).toMatchObject([
      { message: "served", authorized_as: "local", request_id: expect.any(String) },
    ]);
  });

  test("an observer learns of the end of each call once", async () => {
    const ends: string[] = [];
    const cancelled = createGate();
    const client = await serve(
      {
        async echo(text) {
          if (text === "fail") throw new SpireError("NOT_FOUND", "gone");
          return text;
        },
        async *watch(_, call) {
          yield "open";
          await endOf(call);
        },
      },
      {
        observe: (call) => (outcome) => {
          ends.push(`${call.method.split("/")[2]} ${outcome?.code ?? "OK"}`);
          if (outcome?.code === "CANCELLED") cancelled.resolve();
        },
      },
    );
    await client.echo("");
    await failureOf(client.echo("fail"));
    for await (const _ of client.watch("")) break;
    await cancelled.promise;
    expect(ends).toEqual(["Echo OK", "Echo NOT_FOUND", "Watch CANCELLED"]);
  });
});

describe("clients that go", () => {
  /** A stream that tells how it ended. */
  function watched() {
    const started = createGate<Call>();
    const cleaned = createGate();
    const handlers: TestHandlers = {
      async *watch(_, call) {
        started.resolve(call);
        try {
          yield "open";
          await endOf(call);
          yield "never sent";
        } finally {
          cleaned.resolve();
        }
      },
    };
    return { handlers, started: started.promise, cleaned: cleaned.promise };
  }

  test("a client that stops reading ends the handler", async () => {
    const { handlers, started, cleaned } = watched();
    const client = await serve(handlers);
    for await (const message of client.watch("")) {
      expect(message).toBe("open");
      break;
    }
    await cleaned;
    expect((await started).signal.aborted).toBe(true);
  });

  test("an aborted signal ends the call on both sides", async () => {
    const { handlers, cleaned } = watched();
    const client = await serve(handlers);
    const stop = new AbortController();
    const messages = client.watch("", { signal: stop.signal })[Symbol.asyncIterator]();
    await messages.next();
    stop.abort();
    expect((await failureOf(messages.next())).code).toBe("CANCELLED");
    await cleaned;
  });

  test("a message to a conversation that was aborted before it connected is refused, not awaited", async () => {
    const client = await serve({});
    const conversation = client.talk({ signal: AbortSignal.abort() });
    expect((await failureOf(conversation.send("lost"))).code).toBe("CANCELLED");
  });

  test("a deadline ends the call on both sides", async () => {
    const { handlers, cleaned } = watched();
    const client = await serve({ ...handlers, echo: () => never });
    expect((await failureOf(client.echo("", { timeoutMs: 20 }))).code).toBe("DEADLINE_EXCEEDED");
    expect((await failureOf(collect(client.watch("", { timeoutMs: 20 })))).code).toBe("DEADLINE_EXCEEDED");
    await cleaned;
  });

  test("a broken connection ends its calls", async () => {
    const { handlers, started, cleaned } = watched();
    await serve(handlers);
    const raw = connectRaw(path);
    raw.call(1, "Watch", "");
    await started;
    raw.socket.destroy();
    await cleaned;
  });

  test("a generator that waits for nothing that ends is closed at its next step", async () => {
    const cleaned = createGate();
    const next = createGate();
    const client = await serve({
      async *watch() {
        try {
          yield "open";
          await next.promise;
          yield "never sent";
        } finally {
          cleaned.resolve();
        }
      },
    });
    for await (const _ of client.watch("")) break;
    next.resolve();
    await cleaned.promise;
  });

  test("a clean-up that fails is logged, not thrown into the void", async () => {
    const logged = createGate();
    const failing = new TypeError("clean-up bug");
    await serve({
      async *watch(_, call) {
        try {
          yield "open";
          await endOf(call);
        } finally {
          logged.resolve();
          // biome-ignore lint/correctness/noUnsafeFinally: the very thing under test
          throw failing;
        }
      },
    });
    for await (const _ of connectClient().watch("")) break;
    await logged.promise;
    await new Promise((resolve) => setImmediate(resolve));
    expect(log.lines).toMatchObject([{ level: "error", error: failing }]);
  });

  test("a client that never reads costs one message, not a queue", async () => {
    let produced = 0;
    const ended = createGate();
    const client = await serve({
      echo: async () => String(produced),
      async *watch() {
        try {
          for (;;) {
            produced += 1;
            yield "x".repeat(64 * 1024);
          }
        } finally {
          ended.resolve();
        }
      },
    });
    const raw = connectRaw(path);
    raw.call(1, "Watch", "");
    let before = "";
    // Once the window is full the count stands still, while other clients are served.
    for (let same = 0; same < 50; ) {
      const now = await client.echo("");
      same = now === before && now !== "0" ? same + 1 : 0;
      before = now;
    }
    expect(Number(before)).toBeLessThan(10);
    raw.socket.destroy();
    await ended.promise;
  });

  test("2,000 streams opened at once on 4 connections and abandoned leave the others served", async () => {
    let open = 0;
    const allOpen = createGate();
    const allClosed = createGate();
    const client = await serve({
      echo: async (text) => text,
      async *watch(_, call) {
        if (++open === 2_000) allOpen.resolve();
        try {
          yield "x".repeat(1_000);
          await endOf(call);
        } finally {
          if (--open === 0) allClosed.resolve();
        }
      },
    });
    const raws = Array.from({ length: 4 }, () => connectRaw(path));
    for (let i = 0; i < 500; i++) for (const raw of raws) raw.call(1 + 2 * i, "Watch", "");
    await allOpen.promise;
    // Abandoned: still connected, nothing read any more.
    expect(await client.echo("while abandoned")).toBe("while abandoned");
    const newcomer = connectClient();
    for await (const _ of newcomer.watch("")) break;
    for (const raw of raws) raw.socket.destroy();
    await allClosed.promise;
    expect(await client.echo("after")).toBe("after");
  });

  test("a client that reads each of its streams once and cancels it keeps its connection", async () => {
    await serve({
      async *watch(_, call) {
        yield "open";
        await endOf(call);
      },
    });
    const session = connectHttp2("http://localhost", { createConnection: () => connect(path) });
    const ended = new Promise<string>((resolve) => {
      session.on("goaway", (code) => resolve(`GOAWAY ${code}`));
      session.on("error", (error) => resolve(String(error)));
    });
    const fetchOnce = () =>
      new Promise<void>((resolve) => {
        const stream = session.request(watchHeaders);
        stream.on("error", () => {});
        stream.once("data", () => {
          stream.close(constants.NGHTTP2_CANCEL);
          resolve();
        });
        stream.end(Buffer.from([0, 0, 0, 0, 0]));
      });
    for (let i = 0; i < 5_000; i++) expect(await Promise.race([fetchOnce(), ended])).toBeUndefined();
    session.destroy();
  });

  test("a flood of streams that are reset at once ends that connection or is endured, and others are served", async () => {
    const client = await serve({
      echo: async (text) => text,
      async *watch(_, call) {
        yield "open";
        await endOf(call);
      },
    });
    const raw = connectRaw(path);
    for (let i = 0; i < 20_000 && !raw.socket.destroyed; i++) {
      raw.call(1 + 2 * i, "Watch", "");
      raw.reset(1 + 2 * i);
      if (i % 500 === 0) expect(await client.echo("during")).toBe("during");
    }
    expect(await client.echo("after")).toBe("after");
    raw.socket.destroy();
  });

  test("5,000 connections leave no descriptor behind", async () => {
    let closed = 0;
    const descriptors = () => readdirSync("/proc/self/fd").length;
    const client = await serve({
      echo: async (text) => text,
      async *watch(_, call) {
        yield "open";
        await endOf(call);
        closed += 1;
      },
    });
    await client.echo("");
    const before = descriptors();
    for (let i = 0; i < 5_000; i += 100) {
      const raws = Array.from({ length: 100 }, () => connectRaw(path));
      for (const raw of raws) raw.call(1, "Watch", "");
      for (const raw of raws) await new Promise((resolve) => raw.socket.once("readable", resolve));
      for (const raw of raws) raw.socket.destroy();
      while (closed < i + 100) await new Promise((resolve) => setImmediate(resolve));
    }
    while (descriptors() > before) await new Promise((resolve) => setImmediate(resolve));
    expect(descriptors()).toBe(before);
  }, 60_000);
});

describe("the end of a listener", () => {
  test("calls under way end normally, streams are told, and the socket file goes", async () => {
    const entered = createGate();
    const release = createGate();
    const opened = createGate();
    const client = await serve({
      async echo(text) {
        entered.resolve();
        await release.promise;
        return text;
      },
      async *watch(_, call) {
        yield "open";
        opened.resolve();
        await endOf(call);
      },
    });
    const answer = client.echo("late");
    const stream = collect(connectClient().watch(""));
    await Promise.all([entered.promise, opened.promise]);
    const closing = listeners[0]?.close();
    expect(existsSync(path)).toBe(false);
    expect(await failureOf(stream)).toMatchObject({
      code: "UNAVAILABLE",
      message: "the server is shutting down",
    });
    release.resolve();
    expect(await answer).toBe("late");
    await closing;
    expect((await failureOf(connectClient().echo(""))).code).toBe("UNAVAILABLE");
  });

  test("a call that doesn't end is cut off after the grace", async () => {
    const clock = createManualClock(0);
    const entered = createGate();
    const client = await serve(
      {
        echo() {
          entered.resolve();
          return never;
        },
      },
      { clock },
    );
    const answer = failureOf(client.echo(""));
    await entered.promise;
    const closing = listeners[0]?.close();
    await clock.advance(9_999);
    let closed = false;
    void closing?.then(() => {
      closed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    await clock.advance(1);
    await closing;
    expect((await answer).code).toBe("UNAVAILABLE");
  });

  test("the socket can be listened at again at once, and clients come back by themselves", async () => {
    const client = await serve({ echo: async () => "first" });
    expect(await client.echo("")).toBe("first");
    await listeners[0]?.close();
    const again = await serve({ echo: async () => "second" });
    expect(await again.echo("")).toBe("second");
    let answer = "";
    while (answer === "") answer = await client.echo("").catch(() => "");
    expect(answer).toBe("second");
  });
});
