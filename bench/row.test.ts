/** The figures of a row are values that were measured. */
import { expect, test } from "bun:test";
import { summarise } from "./row.ts";

test("of 20 samples, the 95th percentile is the second largest", () => {
  const samples = Array.from({ length: 20 }, (_, index) => 20 - index);
  expect(summarise(samples)).toEqual({ samples: 20, median: 10, p95: 19, minimum: 1, maximum: 20 });
});

test("one sample is all of its figures", () => {
  expect(summarise([7])).toEqual({ samples: 1, median: 7, p95: 7, minimum: 7, maximum: 7 });
});

test("no sample has no figures", () => {
  expect(() => summarise([])).toThrow(RangeError);
});
