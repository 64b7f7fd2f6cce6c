import { expect, test } from "bun:test";
import { createSummary } from "./summary.ts";

function summaryAt(start = 1_000_000) {
  let now = start;
  const summary = createSummary(() => now);
  return {
    summary,
    pass: (ms: number) => {
      now += ms;
    },
  };
}

test("quantiles are those of the values", () => {
  const { summary } = summaryAt();
  for (let value = 100; value >= 1; value--) summary.add(value);
  expect(summary.quantiles()).toEqual([50, 90, 99]);
  expect({ count: summary.count, sum: summary.sum }).toEqual({ count: 100, sum: 5_050 });
});

test("quantiles forget within ten seconds, count and sum never", () => {
  const { summary, pass } = summaryAt();
  summary.add(7);
  pass(7_000);
  expect(summary.quantiles()).toEqual([7, 7, 7]);
  pass(3_000);
  expect(summary.quantiles()).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  expect({ count: summary.count, sum: summary.sum }).toEqual({ count: 1, sum: 7 });
});

test("a burst weighs by all of its values, though few of them are kept", () => {
  const { summary, pass } = summaryAt();
  for (let index = 0; index < 256; index++) summary.add(1);
  pass(2_000);
  for (let index = 0; index < 256 * 100; index++) summary.add(2);
  const [median, ninety] = summary.quantiles();
  expect([median, ninety]).toEqual([2, 2]);
});
