import { expect, test } from "bun:test";
import { connectionShare } from "./descriptors.ts";

test("connections of strangers take no more than their share of the descriptors", () => {
  expect(connectionShare(1 / 2)).toBeGreaterThan(0);
  expect(connectionShare(1 / 2)).toBeLessThanOrEqual(1_000);
  expect(connectionShare(1 / 1_000_000_000)).toBe(1);
});
