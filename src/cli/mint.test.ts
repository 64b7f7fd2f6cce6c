import { expect, test } from "bun:test";
import { requireInt32, wholeSeconds } from "./mint.ts";

test("lifetimes are rounded up to whole seconds", () => {
  expect([0, 1, 1_000, 1_001].map(wholeSeconds)).toEqual([0, 1, 1, 2]);
});

test("a lifetime that no message holds is refused in SPIRE's words", () => {
  expect(() => wholeSeconds(1_000_000 * 3_600_000)).toThrow(
    "invalid value for TTL: overflow converting time.Duration(3.6s) to int32",
  );
  requireInt32(2 ** 31 - 1, "TTL", "int(2147483647)");
  expect(() => requireInt32(2 ** 31, "X509 SVID TTL", "int(2147483648)")).toThrow(
    "invalid value for X509 SVID TTL: overflow converting int(2147483648) to int32",
  );
});
