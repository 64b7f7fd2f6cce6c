import { expect, test } from "bun:test";
import { validateDnsName } from "./dns-name.ts";

test.each([
  "a.test",
  "A.TEST",
  "a_b.test",
  "*.a.test",
  "10.0.0.1",
  "localhost",
  "xn--nxasmq6b.test",
  `${"a".repeat(63)}.t`,
])("accepts %s", (name) => {
  expect(validateDnsName(name)).toBe(name);
});

test.each([
  ["", "empty or only whitespace"],
  ["  ", "empty or only whitespace"],
  ["a.test.", "domain ends with dot"],
  ["a.*.test", "wildcard must be first label"],
  ["a*.test", "wildcard must be first label"],
  ["*", "wildcard must be first label"],
  ["a..b", 'idna error\nidna: invalid label "a..b"'],
  ["-a.test", 'idna error\nidna: invalid label "-a"'],
  ["a-.test", 'idna error\nidna: invalid label "a-"'],
  ["a b", 'idna error\nidna: invalid label "a b"'],
  ["ä.test", 'idna error\nidna: invalid label "ä"'],
  [`${"a".repeat(64)}.test`, `idna error\nidna: invalid label "${"a".repeat(64)}"`],
  [`${"abcdefg.".repeat(32)}t`, `idna error\nidna: invalid label "${"abcdefg.".repeat(32)}t"`],
])("refuses %p", (name, message) => {
  expect(() => validateDnsName(name)).toThrow(message);
});
