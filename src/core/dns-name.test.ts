import { expect, test } from "bun:test";
import { refuseCoveredNames, validateDnsName } from "./dns-name.ts";

test.each([
  "a.test",
  "A.TEST",
  "a_b.test",
  "*.a.test",
  "10.0.0.1",
  "localhost",
  "xn--nxasmq6b.test",
  "a--b.test",
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
  ["ä.test", "name must be ascii"],
  ["*.", "empty or only whitespace"],
  ["*.a.", "domain ends with dot"],
  ["*.*.test", "too many wildcards"],
  ["ab--c.test", 'idna error\nidna: invalid label "ab--c"'],
  ["xn--a.test", 'idna error\nidna: invalid label "xn--a"'],
  ["xn--.test", 'idna error\nidna: invalid label "xn--"'],
  ["XN--NXASMQ6B.test", 'idna error\nidna: invalid label "XN--NXASMQ6B"'],
  [`${"a".repeat(64)}.test`, `idna error\nidna: invalid label "${"a".repeat(64)}"`],
  [`${"abcdefg.".repeat(32)}t`, `idna error\nidna: invalid label "${"abcdefg.".repeat(32)}t"`],
])("refuses %p", (name, message) => {
  expect(() => validateDnsName(name)).toThrow(message);
});

test.each([
  [["*.a.test"]],
  [["a.test", "*.a.test"]],
  [["c.b.a.test", "*.a.test"]],
  [["*.a.test", "*.b.a.test"]],
])("lets %p stand beside each other", (names) => {
  expect(() => refuseCoveredNames(names)).not.toThrow();
});

test.each([[["b.a.test", "*.a.test"]], [["*.a.test", "b.a.test"]]])("refuses %p", (names) => {
  expect(() => refuseCoveredNames(names)).toThrow('name "b.a.test" overlaps with an existing wildcard name');
});
