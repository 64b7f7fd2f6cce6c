import { expect, test } from "bun:test";
import { parseFilterTime } from "./filter-time.ts";

test.each([
  ["2100-01-01 00:00:00 +0000 +00", "2100-01-01 00:00:00 +0000 +00"],
  ["2100-01-01 00:00:00 +0100 CET", "2100-01-01 00:00:00 +0100 +01"],
  ["2100-01-01 00:00:00 +0000 UTC", "2100-01-01 00:00:00 +0000 +00"],
  ["2100-01-01T00:00:00Z", "2100-01-01 00:00:00 +0000 +00"],
  ["2100-01-01T00:00:00-05:00", "2100-01-01 00:00:00 -0500 -05"],
])("%p is understood", (text, sent) => {
  expect(parseFilterTime(text)).toBe(sent);
});

test.each([
  ["yesterday", 'cannot parse "yesterday" as "2006"'],
  ["2100-13-01", 'cannot parse "13-01" as "01"'],
  ["2100-01-01 25:00:00 +0000 +00", 'cannot parse "25:00:00 +0000 +00" as "15"'],
  ["2100-01-01 00:00:00 +0000 +00 x", 'extra text: " x"'],
])("%p is refused with the place that is wrong", (text, reason) => {
  expect(() => parseFilterTime(text)).toThrow(
    `date is not valid: parsing time "${text}" as "2006-01-02 15:04:05 -0700 -07": ${reason}`,
  );
});
