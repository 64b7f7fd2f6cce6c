/** A federated endpoint that answers as slowly and in as many pieces as it can. */
import { describe, expect, spyOn, test } from "bun:test";
import { EventEmitter } from "node:events";
import type { TLSSocket } from "node:tls";
import { SpireError } from "../../src/core/errors.ts";
import { type HttpAnswer, httpGet } from "../../src/server/federation/http-get.ts";

/** The answer that comes in these pieces, or why there is none, and how often what came was put together. */
async function answerOf(pieces: Iterable<string>): Promise<{ outcome: HttpAnswer | string; joins: number }> {
  const socket = Object.assign(new EventEmitter(), { write: () => true });
  const answer = httpGet(socket as unknown as TLSSocket, new URL("https://other.test/")).catch(
    (error: unknown) => SpireError.from(error).message,
  );
  const joining = spyOn(Buffer, "concat");
  try {
    for (const piece of pieces) socket.emit("data", Buffer.from(piece, "latin1"));
    socket.emit("end");
    return { outcome: await answer, joins: joining.mock.calls.length };
  } finally {
    joining.mockRestore();
  }
}

const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;

function* repeat(first: string, piece: string, times: number, last = ""): Generator<string> {
  yield first;
  for (let count = 0; count < times; count += 1) yield piece;
  if (last !== "") yield last;
}

describe("an answer in many pieces is put together a few times, not once a piece", () => {
  const times = 50_000;

  test("in chunks", async () => {
    const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const { outcome, joins } = await answerOf(repeat(head, chunk("x"), times, "0\r\n\r\n"));
    expect(outcome).toMatchObject({ status: 200 });
    expect(typeof outcome === "string" ? 0 : outcome.body.length).toBe(times);
    expect(joins).toBeLessThan(500);
  });

  test("of a stated length", async () => {
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${times}\r\n\r\n`;
    const { outcome, joins } = await answerOf(repeat(head, "x", times));
    expect(typeof outcome === "string" ? 0 : outcome.body.length).toBe(times);
    expect(joins).toBeLessThan(500);
  });

  test("up to its end", async () => {
    const { outcome, joins } = await answerOf(repeat("HTTP/1.1 200 OK\r\n\r\n", "x", times));
    expect(typeof outcome === "string" ? 0 : outcome.body.length).toBe(times);
    expect(joins).toBeLessThan(500);
  });

  test("and refused when its head doesn't end", async () => {
    const { outcome, joins } = await answerOf(repeat("HTTP/1.1 200 OK\r\n", "X: y\r\n", times));
    expect(outcome).toBe("malformed HTTP answer: its head is too long");
    expect(joins).toBeLessThan(500);
  });

  test("and refused when interim answers don't end", async () => {
    const { outcome } = await answerOf(repeat("", "HTTP/1.1 100 Continue\r\n\r\n", times));
    expect(outcome).toBeString();
  });
});

test("an answer is taken as soon as it is whole, by its length or its last chunk", async () => {
  for (const text of [
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunk("ok")}0\r\n\r\n`,
  ]) {
    const socket = Object.assign(new EventEmitter(), { write: () => true });
    const answer = httpGet(socket as unknown as TLSSocket, new URL("https://other.test/"));
    socket.emit("data", Buffer.from(text));
    expect((await answer).body.toString()).toBe("ok");
  }
});
