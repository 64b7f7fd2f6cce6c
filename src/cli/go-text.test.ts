import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "../core/errors.ts";
import {
  formatGoDuration,
  formatGoTime,
  formatRfc3339,
  goCodeName,
  parseGoDuration,
  quote,
  systemErrorText,
} from "./go-text.ts";

describe("durations", () => {
  test.each([
    [0, "0s"],
    [0.000001, "1ns"],
    [0.0015, "1.5µs"],
    [2.507229, "2.507229ms"],
    [1, "1ms"],
    [1_500, "1.5s"],
    [5_006, "5.006s"],
    [187_000, "3m7s"],
    [720 * 3_600_000, "720h0m0s"],
    [-5_000, "-5s"],
  ])("%p ms is written as Go writes it", (ms, text) => {
    expect(formatGoDuration(ms)).toBe(text);
  });

  test.each([
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    ["-5m", -300_000],
    ["1.5s", 1_500],
    [".5s", 500],
    ["2us", 0.002],
    ["0", 0],
    ["+1s", 1_000],
  ])("%p is read", (text, ms) => {
    expect(parseGoDuration(text)).toBeCloseTo(ms, 9);
  });

  test.each(["", "abc", "5", "1x", "s", "1h 2m", "--1s", "99999999999h"])("%p is refused", (text) => {
    expect(() => parseGoDuration(text)).toThrow(SpireError);
  });

  test("what is written can be read back", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e12, max: 1e12 }), (microseconds) => {
        const ms = microseconds / 1_000;
        expect(parseGoDuration(formatGoDuration(ms))).toBeCloseTo(ms, 3);
      }),
    );
  });
});

describe("times", () => {
  test("are in local time, with offset and zone", () => {
    expect(formatGoTime(0)).toMatch(/^(1969-12-31|1970-01-01) \d\d:\d\d:00 [+-]\d{4} \S+$/);
    expect(formatRfc3339(1_795_319_196)).toBe("2026-11-22T03:46:36Z");
  });
});

test("text is quoted with Go's escapes", () => {
  expect(quote('a "b"\\\n\x01')).toBe('"a \\"b\\"\\\\\\n\\x01"');
});

test("codes are named as in Go, by name or number", () => {
  expect([
    goCodeName("NOT_FOUND"),
    goCodeName(6),
    goCodeName("CANCELLED"),
    goCodeName(0),
    goCodeName(99),
  ]).toEqual(["NotFound", "AlreadyExists", "Canceled", "OK", "Code(99)"]);
});

test("errors of the system get their usual text", () => {
  expect(systemErrorText(Object.assign(new Error("x"), { code: "ENOENT" }))).toBe(
    "no such file or directory",
  );
  expect(systemErrorText(new Error("something else"))).toBe("something else");
});
