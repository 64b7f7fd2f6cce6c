/** 846 configuration files, and what stock SPIRE's `validate` says of each (1.16, development version). */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { runProgram, type Terminal } from "../../src/cli/command.ts";
import { programNamed } from "../../src/cli/process.ts";
import { programs } from "../../src/main.ts";
import { acceptedHere, refusedHere, saidOtherwise } from "./stock-verdicts.ts";

interface Recorded {
  readonly id: string;
  readonly argv: readonly string[];
  readonly files: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly exit: number;
  /** Standard error; a usage without its flags. */
  readonly error: string;
}

const cases = readFileSync(join(import.meta.dir, "../golden/validate/server.jsonl"), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Recorded);

let start: string;
let folder: string;
beforeAll(async () => {
  start = process.cwd();
  folder = await mkdtemp(join(tmpdir(), "verdicts-"));
});
afterAll(async () => {
  process.chdir(start);
  await rm(folder, { recursive: true, force: true });
});

async function validate({ argv, files, env = {} }: Recorded): Promise<{ exit: number; error: string }> {
  const own = await mkdtemp(join(folder, "case-"));
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(own, path)), { recursive: true });
    await Bun.write(join(own, path), text);
  }
  process.chdir(own);
  let error = "";
  const terminal: Terminal = {
    out: () => {},
    err: (text) => {
      error += text;
    },
    readInput: async () => "",
    untilStopped: () => Promise.resolve(),
    env,
  };
  const exit = await runProgram(programNamed(programs, "spire-server"), argv, terminal);
  return { exit, error: error.replaceAll(own, "$DIR") };
}

/** Without warnings, and without what isn't SPIRE's: descriptions of flags. */
const linesOf = (text: string): readonly string[] =>
  text
    .replace(/^warning: .*\n/gm, "")
    .replace(/(Usage of [^\n]*:\n)(?: {2}-[^\n]*\n(?: {4}\t[^\n]*\n)+)+/g, "$1<flags>\n")
    .split("\n");

/** SPIRE lists some problems of a datastore twice, and headings in any order. */
const once = (lines: readonly string[]): readonly string[] =>
  lines.filter((line, at) => line === "" || line !== lines[at - 1]);

/** Ours may go on in parentheses: with the place, and with what to do. */
function isSame(ours: readonly string[], stock: readonly string[]): boolean {
  return (
    ours.length === stock.length &&
    ours.every((line, at) => line === stock[at] || line.startsWith(`${stock[at]} (`))
  );
}

const sameError = (ours: string, stock: string): boolean =>
  isSame([...linesOf(ours)].sort(), [...once(linesOf(stock))].sort());

const listed = [refusedHere, acceptedHere, saidOtherwise].map(
  (differences) => new Set(differences.flatMap(({ files }) => files)),
);
const [refused = new Set(), accepted = new Set(), reworded = new Set()] = listed;

describe("stock SPIRE's verdicts", () => {
  test.each(cases.map((recorded) => [recorded.id, recorded] as const))("%s", async (id, recorded) => {
    const { exit, error } = await validate(recorded);
    if (refused.has(id) || accepted.has(id)) {
      expect([recorded.exit, exit]).toEqual(refused.has(id) ? [0, 1] : [1, 0]);
      return;
    }
    expect(exit).toBe(recorded.exit);
    const isAlike = sameError(error, recorded.error);
    if (isAlike === reworded.has(id)) expect(error).toBe(recorded.error);
    expect(isAlike).toBe(!reworded.has(id));
  });
});

test("the differences are of recorded files, each named once", () => {
  const ids = cases.map(({ id }) => id);
  const named = listed.flatMap((files) => [...files]);
  expect(named.filter((name) => !ids.includes(name))).toEqual([]);
  expect(new Set(named).size).toBe(named.length);
});
