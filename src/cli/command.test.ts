import { describe, expect, test } from "bun:test";
import { SpireError } from "../core/errors.ts";
import { command, type Group, type Program, runProgram, type Terminal } from "./command.ts";
import { stringFlag } from "./flags.ts";
import { programNamed } from "./process.ts";

function recordingTerminal() {
  const printed = { out: "", err: "" };
  const terminal: Terminal = {
    out: (text) => {
      printed.out += text;
    },
    err: (text) => {
      printed.err += text;
    },
    readInput: async () => "",
    untilStopped: () => new Promise(() => {}),
    env: {},
  };
  return { terminal, printed };
}

const greet = command({
  name: "greet",
  summary: "Greets",
  example: "greet -name you",
  flags: {
    name: stringFlag("Whom"),
    tone: {
      ...stringFlag("How"),
      flawIn: (tone: string, env: Terminal["env"]) =>
        tone === "loud" && env["QUIET"] !== undefined ? "it is quiet here" : undefined,
    },
  },
  run: async ({ flags, terminal }) => {
    if (flags.name === "nobody") throw new SpireError("NOT_FOUND", "nobody there");
    if (flags.name === "defect") throw new TypeError("a defect");
    terminal.out(`hello ${flags.name}\n`);
    return flags.name === "seven" ? 7 : undefined;
  },
});
const leaf = { summary: "Greets", load: async () => greet };
const people: Group = { summary: "People", commands: { greet: leaf }, main: leaf };
const words: Group = { summary: "Words", commands: { greet: leaf } };
const inner: Group = { summary: "Within", isProgram: true, commands: { people, words, plain: leaf } };
const tree: Group = { summary: "All", commands: { inner } };
const program: Program = { name: "spire", version: "1.2.3", tree };

async function run(...args: string[]) {
  const { terminal, printed } = recordingTerminal();
  return { code: await runProgram(program, args, terminal), ...printed };
}

describe("a program", () => {
  test("runs the command that is named, with what follows as its flags", async () => {
    expect(await run("inner", "plain", "-name", "you")).toEqual({ code: 0, out: "hello you\n", err: "" });
  });

  test("passes on a command's exit code", async () => {
    expect((await run("inner", "plain", "-name", "seven")).code).toBe(7);
  });

  test("runs a group's main command when no subcommand is named, also with flags that have values", async () => {
    expect((await run("inner", "people", "-name", "you")).out).toBe("hello you\n");
    expect((await run("inner", "people", "greet", "-name", "me")).out).toBe("hello me\n");
  });

  test("exits with 127 and usage when no command of its is named", async () => {
    expect(await run()).toMatchObject({ code: 127, out: "" });
    expect((await run("bogus")).err).toStartWith("Usage: spire [--version] [--help] <command> [<args>]\n");
    expect((await run("inner")).err).toStartWith("Usage: spire inner [--version]");
    expect((await run("inner")).code).toBe(127);
  });

  test("exits with 1 and the subcommands when a group gets none that it knows", async () => {
    expect(await run("inner", "words")).toMatchObject({ code: 1 });
    expect((await run("inner", "words", "x")).err).toBe(
      "This command is accessed by using one of the subcommands below.\n\nSubcommands:\n    greet  Greets\n",
    );
  });

  test("names the nearest command", async () => {
    expect((await run("iner")).err).toStartWith("unknown command iner, did you mean inner?\n");
    expect((await run("inner", "words", "gret")).err).toStartWith(
      "unknown command gret, did you mean greet?\n",
    );
  });

  test("prints its version", async () => {
    expect(await run("--version")).toEqual({ code: 0, out: "", err: "1.2.3\n" });
  });

  test("prints help without failing, with an example that begins with its own name", async () => {
    expect((await run("-h")).code).toBe(0);
    const help = await run("inner", "plain", "--help");
    expect(help.code).toBe(0);
    expect(help.err).toContain("Example:\n  spire inner greet -name you\n");
  });

  test("takes what asks for help for that, wherever it stands before --", async () => {
    for (const args of [
      ["x", "-h"],
      ["-name", "-help"],
      ["-bogus", "--help", "--"],
    ]) {
      expect(await run("inner", "plain", ...args)).toMatchObject({ code: 0, out: "" });
    }
    expect(await run("-h", "inner", "plain")).toMatchObject({ code: 0, out: "" });
    expect((await run("-h", "inner", "plain")).err).toStartWith("Usage of greet:\n");
    expect((await run("inner", "plain", "--", "-h")).out).toBe("hello \n");
  });

  test("takes a flag of help with a value for a mistake", async () => {
    const mistake = await run("inner", "plain", "-h=true");
    expect(mistake).toMatchObject({ code: 1, out: "" });
    expect(mistake.err).toStartWith("Usage of greet:\n");
    expect(mistake.err).not.toContain("Example:");
  });

  test("refuses a flag's value that the environment doesn't allow before it runs", async () => {
    const { terminal, printed } = recordingTerminal();
    const quiet = { ...terminal, env: { QUIET: "1" } };
    expect(await runProgram(program, ["inner", "plain", "-tone", "loud"], quiet)).toBe(1);
    expect(printed).toEqual({ out: "", err: "Error: it is quiet here\n" });
    expect((await run("inner", "plain", "-tone", "loud")).code).toBe(0);
  });

  test("prints an error's message and exits with 1", async () => {
    expect(await run("inner", "plain", "-name", "nobody")).toEqual({
      code: 1,
      out: "",
      err: "Error: nobody there\n",
    });
  });

  test("keeps the stack of an error that is a defect", async () => {
    expect((await run("inner", "plain", "-name", "defect")).err).toMatch(
      /^Error: TypeError: a defect\n\s+at /,
    );
  });

  test("prints what is wrong with a flag, then the usage", async () => {
    expect((await run("inner", "plain", "-nam", "x")).err).toStartWith(
      "flag provided but not defined: -nam\ndid you mean -name?\nUsage of greet:\n",
    );
  });
});

test("the name that the binary is called by selects the program", () => {
  const trees = { spire: tree, "spire-server": people };
  expect(programNamed({ version: "1", trees }, "/usr/bin/spire-server").tree).toBe(people);
  expect(programNamed({ version: "1", trees }, "anything").name).toBe("spire");
});
