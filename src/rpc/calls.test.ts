import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { SpireError } from "../core/errors.ts";
import { bindService, type Call, EncodedMessage } from "./service.ts";
import { collect, createTestBed, endOf, failureOf, type TestBed } from "./test-bed.ts";
import { createGate, testDefinition } from "./testing.ts";

let bed: TestBed;
beforeEach(() => {
  bed = createTestBed();
});
afterEach(() => bed.close());

describe("calls", () => {
  test("all three kinds carry their messages in order", async () => {
    const client = await bed.serve({
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
    const client = await bed.serve({
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
    const client = await bed.serve({
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
    const client = await bed.serve({
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
    expect(caller).toMatchObject({ transport: "unix", address: bed.path });
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
    const client = await bed.serve({
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
    const client = await bed.serve({ echo: async (text) => text });
    expect((await failureOf(collect(client.watch("")))).code).toBe("UNIMPLEMENTED");
    const channel = bed.dial();
    const other = channel.client({ echo: { ...testDefinition.echo, path: "/other.v1.Other/Echo" } });
    expect((await failureOf(other.echo(""))).code).toBe("UNIMPLEMENTED");
  });
});

describe("failures", () => {
  const details = [{ typeUrl: "type.googleapis.com/x", value: Uint8Array.of(1, 2) }];

  test("a SpireError reaches the client whole, and isn't logged here", async () => {
    const thrown = new SpireError("PERMISSION_DENIED", "über die Grenze: nein, 100%", { details });
    const client = await bed.serve({
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
    expect(bed.log.lines).toEqual([]);
  });

  test("messages that were sent before an error reach the client before it", async () => {
    const sent = ["one", "two", "three"];
    const client = await bed.serve({
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
    const client = await bed.serve({ echo: () => Promise.reject(bug) });
    expect(await failureOf(client.echo(""))).toMatchObject({ code: "INTERNAL", message: "internal" });
    expect(bed.log.lines).toMatchObject([
      { level: "error", error: bug, method: "Echo", service: "test.v1.Test" },
    ]);
  });

  test("a request over 4 MiB is refused, and the next call is served", async () => {
    const client = await bed.serve({ echo: async (text) => String(text.length) });
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
    await bed.listen(services);
    const error = await failureOf(bed.connectClient().echo("x"));
    expect(error).toMatchObject({ code: "INTERNAL", message: "request could not be decoded: wire type 7" });
    expect(served).toBe(false);
  });

  test("the check before a handler sees call and request, may refuse, and adds to the call's log lines", async () => {
    const client = await bed.serve(
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
    expect(bed.log.lines).toMatchObject([
      { message: "served", authorized_as: "local", request_id: expect.any(String) },
    ]);
  });

  test("an observer learns of the end of each call once", async () => {
    const ends: string[] = [];
    const cancelled = createGate();
    const client = await bed.serve(
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
