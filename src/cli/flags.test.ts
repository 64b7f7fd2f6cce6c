import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  boolFlag,
  commaListFlag,
  durationFlag,
  FlagError,
  HelpRequested,
  intFlag,
  listFlag,
  nearest,
  optionalBoolFlag,
  outputFlag,
  parseFlags,
  stringFlag,
  usageOf,
} from "./flags.ts";

const flags = {
  parentID: stringFlag("The parent"),
  ttl: intFlag("Seconds", 600),
  wait: durationFlag("Wait", 1_000),
  node: boolFlag("A node"),
  banned: optionalBoolFlag("Banned"),
  selector: listFlag("Selectors"),
  audience: commaListFlag("Audiences"),
  output: outputFlag,
};
const values = (...args: string[]) => parseFlags(flags, args).values;
const failure = (...args: string[]): FlagError => {
  try {
    parseFlags(flags, args);
  } catch (error) {
    if (error instanceof FlagError) return error;
  }
  throw new Error("nothing was refused");
};

describe("flags", () => {
  test("are read with one dash or two, with the value behind a space or an equals sign", () => {
    for (const args of [["-parentID", "x"], ["--parentID", "x"], ["-parentID=x"], ["--parentID=x"]]) {
      expect(values(...args).parentID).toBe("x");
    }
  });

  test("of several words are read with dashes between them as well", () => {
    const dashed = { keepBans: stringFlag("Bans"), "as-is": boolFlag("As it is") };
    const { values: read, given } = parseFlags(dashed, ["--keep-bans", "x", "-as-is"]);
    expect(read).toEqual({ keepBans: "x", "as-is": true });
    expect([...given]).toEqual(["keepBans", "as-is"]);
    expect(failure("-parent-bogus", "x").message).toBe("flag provided but not defined: -parent-bogus");
  });

  test("end at the first other argument, unless they may stand anywhere", () => {
    const args = ["a", "-node", "b", "-ttl", "5", "--", "-c"];
    expect(parseFlags(flags, args).rest).toEqual(args);
    const { values: read, rest } = parseFlags(flags, args, true);
    expect(read).toMatchObject({ node: true, ttl: 5 });
    expect(rest).toEqual(["a", "b", "-c"]);
  });

  test("keep an empty value, a value with equals signs, and a value that looks like a flag", () => {
    expect(values("-parentID=").parentID).toBe("");
    expect(values("-parentID=a=b").parentID).toBe("a=b");
    expect(values("-ttl", "-5").ttl).toBe(-5);
  });

  test("keep all values of those that may be repeated, in order", () => {
    expect(values("-selector", "a:b", "--selector=c:d", "-selector", "").selector).toEqual([
      "a:b",
      "c:d",
      "",
    ]);
    expect(values("-audience", "a,b", "-audience", "c").audience).toEqual(["a", "b", "c"]);
  });

  test("that are switches take Go's words for true and false", () => {
    expect(values("-node").node).toBe(true);
    for (const text of ["1", "t", "T", "true", "TRUE", "True"])
      expect(values(`-node=${text}`).node).toBe(true);
    for (const text of ["0", "f", "F", "false", "FALSE", "False"])
      expect(values(`-node=${text}`).node).toBe(false);
    expect(failure("-node=maybe").message).toBe('invalid boolean value "maybe" for -node: parse error');
  });

  test("with three states tell not given from false", () => {
    expect(values().banned).toBeUndefined();
    expect(values("-banned", "false").banned).toBe(false);
    expect(failure("-banned", "maybe").message).toContain('invalid value "maybe" for flag -banned');
  });

  test("end at the first argument that is none, and at two dashes", () => {
    expect(parseFlags(flags, ["-node", "word", "-ttl", "1"]).rest).toEqual(["word", "-ttl", "1"]);
    expect(parseFlags(flags, ["-node", "--", "-ttl", "1"]).rest).toEqual(["-ttl", "1"]);
    expect(parseFlags(flags, ["-", "x"]).rest).toEqual(["-", "x"]);
  });

  test("know which of them were given", () => {
    expect([...parseFlags(flags, ["-ttl", "600"]).given]).toEqual(["ttl"]);
    expect(values().ttl).toBe(600);
  });

  test.each([
    [["-ttl", "abc"], 'invalid value "abc" for flag -ttl: parse error'],
    [
      ["-ttl", "99999999999999999999"],
      'invalid value "99999999999999999999" for flag -ttl: value out of range',
    ],
    [["-wait", "5"], 'invalid value "5" for flag -wait: parse error'],
    [["-ttl"], "flag needs an argument: -ttl"],
    [["-bogus"], "flag provided but not defined: -bogus"],
    [["---ttl"], "bad flag syntax: ---ttl"],
    [["-=x"], "bad flag syntax: -=x"],
    [
      ["-output", "yaml"],
      'invalid value "yaml" for flag -output: bad formatter flag: unknown format option: "yaml"',
    ],
  ])("%p fail with Go's text", (args, message) => {
    expect(failure(...args).message).toBe(message);
  });

  test("that are mistyped name the nearest one", () => {
    expect(failure("-parentId", "x").hint).toBe("did you mean -parentID?");
    expect(failure("-selektor", "x").hint).toBe("did you mean -selector?");
    expect(failure("-bogus").hint).toBeUndefined();
  });

  test.each(["-h", "-help", "--help", "--h"])("%p asks for help", (flag) => {
    expect(() => parseFlags(flags, [flag])).toThrow(HelpRequested);
  });

  test.each([
    ["0x10", 16],
    ["010", 8],
    ["0b11", 3],
    ["-7", -7],
    ["+7", 7],
  ])("%p is a whole number as Go reads it", (text, value) => {
    expect(values("-ttl", text).ttl).toBe(value);
  });

  test("never take an inherited property for a flag", () => {
    expect(failure("-constructor", "x").message).toBe("flag provided but not defined: -constructor");
  });

  test("give any text back unchanged", () => {
    fc.assert(fc.property(fc.string(), (text) => expect(values(`-parentID=${text}`).parentID).toBe(text)));
  });
});

test("usage is laid out like Go's, sorted, with defaults", () => {
  expect(
    usageOf("entry x", { ttl: intFlag("Seconds", 600), a: boolFlag("A switch"), p: stringFlag("P", "q") }),
  ).toBe(
    'Usage of entry x:\n  -a\n    \tA switch\n  -p string\n    \tP (default "q")\n  -ttl int\n    \tSeconds (default 600)\n',
  );
});

test("the nearest name is one that is close, or none", () => {
  const known = ["create", "show", "update", "delete", "count"];
  expect(nearest("crate", known)).toBe("create");
  expect(nearest("updaet", known)).toBe("update");
  expect(nearest("SHOW", known)).toBe("show");
  expect(nearest("bogus", known)).toBeUndefined();
  expect(nearest("x", known)).toBeUndefined();
});
