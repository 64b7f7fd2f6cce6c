import { describe, expect, test } from "bun:test";
import { createManualClock } from "./clock.ts";
import { nullLogger } from "./log.ts";
import { backoffDelay, startTask } from "./tasks.ts";

const backoff = { initialMs: 100, maximumMs: 1_000, jitter: 0 };

function countingTask(run: (round: number) => Promise<number>) {
  const clock = createManualClock(0);
  let rounds = 0;
  const task = startTask({
    name: "count",
    clock,
    log: nullLogger,
    backoff,
    run: () => {
      rounds += 1;
      return run(rounds);
    },
  });
  return { clock, task, rounds: () => rounds };
}

describe("a task", () => {
  test("runs at once, then again after each delay that it asks for", async () => {
    const { clock, task, rounds } = countingTask(async () => 50);
    await clock.advance(0);
    expect(rounds()).toBe(1);
    await clock.advance(100);
    expect(rounds()).toBe(3);
    await task.stop();
  });

  test("backs off after failures and recovers", async () => {
    const { clock, task, rounds } = countingTask(async (round) => {
      if (round <= 2) throw new Error("down");
      return 1_000;
    });
    await clock.advance(99);
    expect(rounds()).toBe(1);
    await clock.advance(1);
    expect(rounds()).toBe(2);
    await clock.advance(150);
    expect(rounds()).toBe(3);
    await task.stop();
  });

  test("runs at once when nudged, and once more when nudged during a round", async () => {
    let release = () => {};
    const { clock, task, rounds } = countingTask(
      (round) =>
        new Promise((resolve) => {
          if (round === 2) release = () => resolve(10_000);
          else resolve(10_000);
        }),
    );
    await clock.advance(0);
    task.nudge();
    await clock.advance(0);
    expect(rounds()).toBe(2);
    task.nudge();
    task.nudge();
    release();
    await clock.advance(0);
    expect(rounds()).toBe(3);
    await task.stop();
  });

  test("stops within its delay, and after the round under way", async () => {
    const { clock, task, rounds } = countingTask(async () => 10_000);
    await clock.advance(0);
    await task.stop();
    await clock.advance(50_000);
    expect(rounds()).toBe(1);
  });
});

test("back-off grows by its factor up to its maximum, within its jitter", () => {
  expect([1, 2, 3].map((failures) => backoffDelay({ ...backoff, factor: 2 }, failures))).toEqual([
    100, 200, 400,
  ]);
  expect(backoffDelay({ ...backoff, factor: 2 }, 50)).toBe(1_000);
  for (let i = 0; i < 100; i++) {
    const delay = backoffDelay({ ...backoff, jitter: 0.1 }, 1);
    expect(delay).toBeGreaterThanOrEqual(90);
    expect(delay).toBeLessThanOrEqual(110);
  }
});
