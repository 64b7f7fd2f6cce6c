/** The command tree as a whole: it has all that SPIRE's has, and each command's help shows how it is called. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, type Group, type Leaf, runProgram, type Terminal } from "../src/cli/command.ts";
import { type Flag, parseFlags } from "../src/cli/flags.ts";
import { programNamed } from "../src/cli/process.ts";
import { programs } from "../src/main.ts";
import { configDifferences, runDifferences } from "./golden-cli/config-differences.ts";
import { differences } from "./golden-cli/differences.ts";

interface RecordedFlag {
  readonly flag: string;
  readonly type: string;
  readonly default: string | null;
  readonly repeatable: boolean;
  /** Variable that the flag's text names. */
  readonly acceptsEnv: string | null;
}

interface RecordedCommand {
  readonly usageName: string;
  readonly flags: readonly RecordedFlag[];
}

const golden = join(import.meta.dir, "golden");
const recorded = JSON.parse(readFileSync(join(golden, "cli/commands.json"), "utf8")) as Readonly<
  Record<string, Readonly<Record<string, RecordedCommand>>>
>;

interface Found {
  /** Below the program. */
  readonly words: readonly string[];
  readonly leaf: Leaf;
}

/** All commands of a tree; a group's main command has the group's words. */
function commandsBelow(group: Group, words: readonly string[] = []): readonly Found[] {
  const main = group.main ? [{ words, leaf: group.main }] : [];
  return main.concat(
    Object.entries(group.commands).flatMap(([name, child]) =>
      "load" in child ? [{ words: [...words, name], leaf: child }] : commandsBelow(child, [...words, name]),
    ),
  );
}

const treeOf = (program: string): Group => programNamed(programs, program).tree;

/** As recorded: switches are of type bool, and what may be repeated keeps both values. */
function describeFlag(name: string, { kind, shown, initial, parse, usage }: Flag<unknown>): RecordedFlag {
  const repeatable = Array.isArray(initial) && (parse("b", parse("a", initial)) as string[]).length === 2;
  const [, acceptsEnv = null] = /\(env (\w+)\)/.exec(usage) ?? [];
  const initialText = shown === "" ? null : shown.replace(/^"(.*)"$/, "$1");
  return { flag: name, type: kind === "" ? "bool" : kind, default: initialText, repeatable, acceptsEnv };
}

describe("every command of SPIRE's server is there, with its flags", () => {
  const found = commandsBelow(treeOf("spire-server"));
  test.each(Object.entries(recorded["spire-server"] ?? {}))("%s", async (words, { usageName, flags }) => {
    const leaf = found.find((one) => one.words.join(" ") === words)?.leaf;
    const loaded = await leaf?.load();
    expect(loaded?.name).toBe(usageName);
    const own = Object.entries(loaded?.flags ?? {}).map(([name, flag]) => describeFlag(name, flag));
    const wanted = new Set(flags.map(({ flag }) => flag));
    expect(own.filter(({ flag }) => wanted.has(flag)).sort(byName)).toEqual([...flags].sort(byName));
  });
});

const byName = (a: RecordedFlag, b: RecordedFlag): number => (a.flag < b.flag ? -1 : 1);

async function run(program: string, args: readonly string[]) {
  const printed = { out: "", err: "" };
  const terminal: Terminal = {
    out: (text) => {
      printed.out += text;
    },
    err: (text) => {
      printed.err += text;
    },
    readInput: () => Promise.reject(new Error("help asks for nothing")),
    untilStopped: () => Promise.reject(new Error("help waits for nothing")),
    env: { SPIRE_SERVER_FFLAGS: "wit-svid" },
  };
  return { code: await runProgram(programNamed(programs, program), args, terminal), ...printed };
}

const everyCommand = Object.keys(programs.trees).flatMap((program) =>
  commandsBelow(treeOf(program))
    .filter(({ leaf }) => !leaf.isInternal)
    .map(({ words, leaf }) => ({ program, words, leaf, title: [program, ...words].join(" ") })),
);

/** Words as a shell reads a line without substitutions, up to what it does itself. */
const shellWords = (line: string): string[] =>
  [
    ...line
      .replace(/ [|>] .*/, "")
      .replace(/\$\([^)]*\)/g, "1")
      .matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g),
  ].map(([, single, double, bare]) => single ?? double ?? bare ?? "");

describe("help", () => {
  test.each(everyCommand.map((one) => [one.title, one] as const))(
    "%s -help ends with an example that its flags can be read from",
    async (title, { program, words, leaf }) => {
      const { code, out, err } = await run(program, [...words, "-help"]);
      expect(code).toBe(0);
      const command = await leaf.load();
      const examples = (out + err)
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line.startsWith(`${title} `) || line === title);
      expect(examples.length).toBeGreaterThan(0);
      for (const example of examples) readExample(command, words, example.slice(title.length));
    },
  );

  const groups = Object.keys(programs.trees).flatMap((program) => groupsBelow(treeOf(program), [program]));
  test.each(groups)("%s -help lists its commands", async (words, group) => {
    const [program = "", ...rest] = words.split(" ");
    const { code, err } = await run(program, [...rest, "-help"]);
    expect(code).toBe(0);
    const listed = [...err.matchAll(/^ {4}(\S+) +\S/gm)].map(([, name = ""]) => name);
    expect(listed).toEqual(Object.keys(group.commands).sort());
  });
});

function groupsBelow(group: Group, words: readonly string[]): readonly (readonly [string, Group])[] {
  const below = Object.entries(group.commands).flatMap(([name, child]) =>
    "load" in child ? [] : groupsBelow(child, [...words, name]),
  );
  return group.main ? below : [[words.join(" "), group], ...below];
}

/**
 * A group's main command may be shown by its own name.
 * @throws FlagError
 */
function readExample({ name, flags, flagsAnywhere }: Command, words: readonly string[], args: string): void {
  const given = shellWords(args.split(" -- ")[0] ?? "");
  const isNamed = name.split(" ").some((word) => word === given[0] && !words.includes(word));
  const { rest } = parseFlags(flags, isNamed ? given.slice(1) : given, flagsAnywhere);
  for (const word of rest) expect(word).not.toStartWith("-");
}

describe("docs/compatibility.md", () => {
  const page = readFileSync(join(import.meta.dir, "../docs/compatibility.md"), "utf8");
  const differing = Object.entries({ ...differences, ...configDifferences, ...runDifferences })
    .map(([id, { why }]) => [id, why] as const)
    .filter(([id]) => id.startsWith("spire-server/"));

  test("says how many recorded runs of the server are alike", () => {
    const order = JSON.parse(readFileSync(join(golden, "cli/order.json"), "utf8")) as Record<
      string,
      string[]
    >;
    const all = new Set(
      Object.values(order)
        .flat()
        .filter((id) => id.startsWith("spire-server/")),
    );
    expect(differing.filter(([id]) => !all.has(id))).toEqual([]);
    expect(page).toContain(`${all.size} runs of stock SPIRE's \`spire-server\` are recorded`);
    expect(page.replace(/\s+/g, " ")).toContain(
      `${all.size - differing.length} print the same and exit alike, ${differing.length} differ on purpose`,
    );
  });

  test("lists each one that differs, with the benefit", () => {
    const rows = page.split("\n");
    const unlisted = differing.filter(
      ([id, why]) =>
        !rows.some((row) => row.includes(`\`${id.replace("spire-server/", "")}\``) && row.includes(why)),
    );
    expect(unlisted).toEqual([]);
  });
});
