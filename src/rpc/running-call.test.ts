import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import type { Call } from "./service.ts";
import { collect, createTestBed, endOf, failureOf, never, type TestBed } from "./test-bed.ts";
import { connectRaw, createGate } from "./testing.ts";

let bed: TestBed;
beforeEach(() => {
  bed = createTestBed();
});
afterEach(() => bed.close());

const watchHeaders = {
  ":method": "POST",
  ":path": "/test.v1.Test/Watch",
  "content-type": "application/grpc",
  te: "trailers",
};

/**
 * Sockets and pidfds of this process. How many descriptors there are altogether is no measure: what tests before this
 * one have left to be collected goes meanwhile, and other things come.
 */
function connectionDescriptors(): Set<string> {
  const found = new Set<string>();
  for (const descriptor of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${descriptor}`);
      if (/^socket:|pidfd/.test(target)) found.add(`${descriptor} ${target}`);
    } catch {
      // That of the folder itself.
    }
  }
  return found;
}

describe("clients that go", () => {
  /** A stream that tells how it ended. */
  function watched() {
    const started = createGate<Call>();
    const cleaned = createGate();
    const handlers: Parameters<TestBed["serve"]>[0] = {
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
    const client = await bed.serve(handlers);
    for await (const message of client.watch("")) {
      expect(message).toBe("open");
      break;
    }
    await cleaned;
    expect((await started).signal.aborted).toBe(true);
  });

  test("an aborted signal ends the call on both sides", async () => {
    const { handlers, cleaned } = watched();
    const client = await bed.serve(handlers);
    const stop = new AbortController();
    const messages = client.watch("", { signal: stop.signal })[Symbol.asyncIterator]();
    await messages.next();
    stop.abort();
    expect((await failureOf(messages.next())).code).toBe("CANCELLED");
    await cleaned;
  });

  test("a message to a conversation that was aborted before it connected is refused, not awaited", async () => {
    const client = await bed.serve({});
    const conversation = client.talk({ signal: AbortSignal.abort() });
    expect((await failureOf(conversation.send("lost"))).code).toBe("CANCELLED");
  });

  test("a deadline ends the call on both sides", async () => {
    const { handlers, cleaned } = watched();
    const client = await bed.serve({ ...handlers, echo: () => never });
    expect((await failureOf(client.echo("", { timeoutMs: 20 }))).code).toBe("DEADLINE_EXCEEDED");
    expect((await failureOf(collect(client.watch("", { timeoutMs: 20 })))).code).toBe("DEADLINE_EXCEEDED");
    await cleaned;
  });

  test("a broken connection ends its calls", async () => {
    const { handlers, started, cleaned } = watched();
    await bed.serve(handlers);
    const raw = connectRaw(bed.path);
    raw.call(1, "Watch", "");
    await started;
    raw.socket.destroy();
    await cleaned;
  });

  test("a generator that waits for nothing that ends is closed at its next step", async () => {
    const cleaned = createGate();
    const next = createGate();
    const client = await bed.serve({
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
    await bed.serve({
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
    for await (const _ of bed.connectClient().watch("")) break;
    await logged.promise;
    await new Promise((resolve) => setImmediate(resolve));
    expect(bed.log.lines).toMatchObject([{ level: "error", error: failing }]);
  });

  test("a client that never reads costs one message, not a queue", async () => {
    let produced = 0;
    const ended = createGate();
    const client = await bed.serve({
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
    const raw = connectRaw(bed.path);
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
    const client = await bed.serve({
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
    const raws = Array.from({ length: 4 }, () => connectRaw(bed.path));
    for (let i = 0; i < 500; i++) for (const raw of raws) raw.call(1 + 2 * i, "Watch", "");
    await allOpen.promise;
    // Abandoned: still connected, nothing read any more.
    expect(await client.echo("while abandoned")).toBe("while abandoned");
    const newcomer = bed.connectClient();
    for await (const _ of newcomer.watch("")) break;
    for (const raw of raws) raw.socket.destroy();
    await allClosed.promise;
    expect(await client.echo("after")).toBe("after");
  });

  test("a client that reads each of its streams once and cancels it keeps its connection", async () => {
    await bed.serve({
      async *watch(_, call) {
        yield "open";
        await endOf(call);
      },
    });
    const session = connectHttp2("http://localhost", { createConnection: () => connect(bed.path) });
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
    const client = await bed.serve({
      echo: async (text) => text,
      async *watch(_, call) {
        yield "open";
        await endOf(call);
      },
    });
    const raw = connectRaw(bed.path);
    for (let i = 0; i < 20_000 && !raw.socket.destroyed; i++) {
      raw.call(1 + 2 * i, "Watch", "");
      raw.reset(1 + 2 * i);
      if (i % 500 === 0) expect(await client.echo("during")).toBe("during");
    }
    expect(await client.echo("after")).toBe("after");
    raw.socket.destroy();
  }, 60_000);

  test("5,000 connections leave no descriptor behind", async () => {
    let closed = 0;
    const client = await bed.serve({
      echo: async (text) => text,
      async *watch(_, call) {
        yield "open";
        await endOf(call);
        closed += 1;
      },
    });
    await client.echo("");
    const before = connectionDescriptors();
    for (let i = 0; i < 5_000; i += 100) {
      const raws = Array.from({ length: 100 }, () => connectRaw(bed.path));
      for (const raw of raws) raw.call(1, "Watch", "");
      for (const raw of raws) await new Promise((resolve) => raw.socket.once("readable", resolve));
      for (const raw of raws) raw.socket.destroy();
      while (closed < i + 100) await new Promise((resolve) => setImmediate(resolve));
    }
    const left = () => connectionDescriptors().difference(before).size;
    while (left() > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(left()).toBe(0);
  }, 60_000);
});
