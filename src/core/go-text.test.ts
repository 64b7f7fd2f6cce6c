import { expect, test } from "bun:test";
import { quote } from "./go-text.ts";

test.each([
  ["", '""'],
  ["spiffe://example.org/a b", '"spiffe://example.org/a b"'],
  ['a"b\\c', '"a\\"b\\\\c"'],
  ["a\nb\tc\x07", '"a\\nb\\tc\\a"'],
  ["\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'],
  ["\x80\x9f", '"\\u0080\\u009f"'],
  ["ü€𝄞", '"ü€𝄞"'],
])("%j is quoted as Go's %%q does", (text, quoted) => {
  expect(quote(text)).toBe(quoted);
});
