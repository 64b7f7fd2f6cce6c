import { describe, expect, test } from "bun:test";
import { createManualClock, sleep, systemClock, unixSeconds } from "./clock.ts";

describe("a manual clock", () => {
  test("fires timers in the order in which they are due, at their own time", async () => {
    const clock = createManualClock(1_000);
    const fired: [string, number][] = [];
    clock.after(200, () => fired.push(["second", clock.now()]));
    clock.after(100, () => fired.push(["first", clock.now()]));
    await clock.advance(250);
    expect(fired).toEqual([
      ["first", 1_100],
      ["second", 1_200],
    ]);
    expect(clock.now()).toBe(1_250);
  });

  test("fires timers that a timer sets within the same step", async () => {
    const clock = createManualClock(0);
    let rounds = 0;
    const again = () => {
      rounds += 1;
      clock.after(10, again);
    };
    clock.after(10, again);
    await clock.advance(35);
    expect(rounds).toBe(3);
  });

  test("never fires a timer that was cancelled", async () => {
    const clock = createManualClock(0);
    let fired = false;
    clock.after(10, () => {
      fired = true;
    })();
    await clock.advance(20);
    expect(fired).toBe(false);
  });
});

describe("sleep", () => {
  test("ends at once when it is aborted, and leaves no timer behind", async () => {
    const clock = createManualClock(0);
    const abort = new AbortController();
    const asleep = sleep(clock, 1_000, abort.signal);
    abort.abort();
    await asleep;
    expect(clock.now()).toBe(0);
  });

  test("does not begin under a signal that is aborted already", async () => {
    await sleep(createManualClock(0), 1_000, AbortSignal.abort());
  });
});

test("unixSeconds rounds down", () => {
  expect(unixSeconds(createManualClock(1_999))).toBe(1);
});

test("the system clock calls back, and a negative delay counts as none", async () => {
  await new Promise<void>((resolve) => systemClock.after(-5, resolve));
});
