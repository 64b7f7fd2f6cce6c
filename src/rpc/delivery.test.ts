import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import {
  createFrameReader,
  encodeCall,
  encodeFrame,
  frameTypes,
  preface,
} from "../../test/faults/raw-http2.ts";
import { SpireError } from "../core/errors.ts";
import type { Call } from "./service.ts";
import { createTestBed, failureOf, type TestBed } from "./test-bed.ts";
import { testDefinition } from "./testing.ts";

let bed: TestBed;
beforeEach(() => {
  bed = createTestBed();
});
afterEach(() => bed.close());

/** Serves a unary method whose calls tell what became of their answers, in the order in which that is known. */
async function serveTold(answer: (request: string) => Promise<string> = async (request) => request) {
  const told: boolean[] = [];
  let wake = Promise.withResolvers<void>();
  const client = await bed.serve({
    async echo(request: string, call: Call) {
      call.onAnswered((delivered) => {
        told.push(delivered);
        wake.resolve();
        wake = Promise.withResolvers();
      });
      return answer(request);
    },
  });
  return {
    client,
    async until(count: number) {
      while (told.length < count) await wake.promise;
      return told;
    },
  };
}

describe("an answer", () => {
  test("is delivered when the client has read it", async () => {
    const { client, until } = await serveTold();
    await client.echo("hello");
    expect(await until(1)).toEqual([true]);
  });

  test("is known to be delivered of each of many calls at once", async () => {
    const { client, until } = await serveTold();
    await Promise.all(Array.from({ length: 50 }, () => client.echo("hello")));
    expect(await until(50)).toEqual(new Array(50).fill(true));
  });

  test("that is an error is not", async () => {
    const { client, until } = await serveTold(async () => {
      throw new SpireError("NOT_FOUND", "nothing");
    });
    await failureOf(client.echo("hello"));
    expect(await until(1)).toEqual([false]);
  });

  test("of a call that was cancelled before it came is not", async () => {
    const begun = Promise.withResolvers<void>();
    const { client, until } = await serveTold(() => {
      begun.resolve();
      return new Promise(() => {});
    });
    const cancel = new AbortController();
    const failure = failureOf(client.echo("hello", { signal: cancel.signal }));
    await begun.promise;
    cancel.abort();
    await failure;
    expect(await until(1)).toEqual([false]);
  });

  test.each([
    ["is cancelled", (socket: Socket) => void socket.write(encodeFrame(frameTypes.reset, 0, 1, cancelCode))],
    ["loses its connection", (socket: Socket) => void socket.destroy()],
  ])("that the server has sent whole is not, when the client has no room for it and %s", async (_, leave) => {
    const { until } = await serveTold();
    const socket = connect(bed.path);
    const read = createFrameReader();
    socket.write(Buffer.concat([preface, encodeFrame(frameTypes.settings, 0, 0, noRoom)]));
    socket.write(encodeCall(1, testDefinition.echo.path, {}, Buffer.from("hello")));
    socket.on("data", (bytes: Buffer) => {
      const isAnswered = read(bytes).some(
        ({ type, streamId }) => type === frameTypes.headers && streamId === 1,
      );
      if (isAnswered) leave(socket);
    });
    expect(await until(1)).toEqual([false]);
    socket.destroy();
  });
});

/** SETTINGS_INITIAL_WINDOW_SIZE of 0: no stream gets any data. */
const noRoom = Buffer.from([0, 4, 0, 0, 0, 0]);
/** CANCEL. */
const cancelCode = Buffer.from([0, 0, 0, 8]);
