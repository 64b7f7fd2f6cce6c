import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { createManualClock } from "../core/clock.ts";
import { collect, createTestBed, endOf, failureOf, never, type TestBed } from "./test-bed.ts";
import { createGate } from "./testing.ts";

let bed: TestBed;
beforeEach(() => {
  bed = createTestBed();
});
afterEach(() => bed.close());

describe("the end of a listener", () => {
  test("calls under way end normally, streams are told, and the socket file goes", async () => {
    const entered = createGate();
    const release = createGate();
    const opened = createGate();
    const client = await bed.serve({
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
    const stream = collect(bed.connectClient().watch(""));
    await Promise.all([entered.promise, opened.promise]);
    const closing = bed.listener().close();
    expect(existsSync(bed.path)).toBe(false);
    expect(await failureOf(stream)).toMatchObject({
      code: "UNAVAILABLE",
      message: "the server is shutting down",
    });
    release.resolve();
    expect(await answer).toBe("late");
    await closing;
    expect((await failureOf(bed.connectClient().echo(""))).code).toBe("UNAVAILABLE");
  });

  test("a call that doesn't end is cut off after the grace", async () => {
    const clock = createManualClock(0);
    const entered = createGate();
    const client = await bed.serve(
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
    const closing = bed.listener().close();
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
    const client = await bed.serve({ echo: async () => "first" });
    expect(await client.echo("")).toBe("first");
    await bed.listener().close();
    const again = await bed.serve({ echo: async () => "second" });
    expect(await again.echo("")).toBe("second");
    let answer = "";
    while (answer === "") answer = await client.echo("").catch(() => "");
    expect(answer).toBe("second");
  });
});
