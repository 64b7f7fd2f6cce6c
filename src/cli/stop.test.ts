import { expect, test } from "bun:test";
import { untilStopped } from "./stop.ts";

test("signals that come together end the process once, in an orderly way; a later one at once", async () => {
  let now = 5_000;
  let hear: () => void = () => {};
  let gaveUp = 0;
  const stopped = untilStopped({
    onSignal: (listener) => {
      hear = listener;
    },
    now: () => now,
    giveUp: () => {
      gaveUp += 1;
    },
  });
  hear();
  await stopped;
  now += 999;
  hear();
  expect(gaveUp).toBe(0);
  now += 1;
  hear();
  expect(gaveUp).toBe(1);
});
