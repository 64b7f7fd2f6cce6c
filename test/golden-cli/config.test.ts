/** Replays recorded runs of `validate`, and of `run` with files that are wrong. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { runProgram, type Terminal } from "../../src/cli/command.ts";
import { programNamed } from "../../src/cli/process.ts";
import { programs } from "../../src/main.ts";
import { normalise, type RecordedCase, recordedCases } from "./cases.ts";
import { configDifferences, runDifferences } from "./config-differences.ts";
import { enterFolder, type Run } from "./world.ts";

const main = join(import.meta.dir, "../../src/main.ts");

const casesOf = (group: string): readonly RecordedCase[] => recordedCases("stage1", [group]);

/** Ours add a place and a remedy in parentheses at the end of a line, and warnings. */
const withoutAdditions = (text: string): string =>
  normalise(text)
    .replace(/^warning: .*\n/gm, "")
    .replaceAll(process.cwd(), "$DIR/a")
    .replace(/ \((?:-\w+|a?v\.(?:conf|json))(?::[^\n]*)?\)$/gm, "");

/** SPIRE leaves the end of the line away in some messages. */
const wholeLines = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);

async function writeFiles({ files = {} }: RecordedCase): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(path), { recursive: true });
    await Bun.write(path, text);
  }
}

async function validate(recorded: RecordedCase): Promise<Run> {
  const output = { stdout: "", stderr: "" };
  const terminal: Terminal = {
    out: (text) => {
      output.stdout += text;
    },
    err: (text) => {
      output.stderr += text;
    },
    readInput: async () => "",
    untilStopped: () => Promise.resolve(),
    env: recorded.env ?? {},
  };
  const exitCode = await runProgram(programNamed(programs, recorded.command), recorded.argv, terminal);
  return { exitCode, ...output };
}

let leave: () => Promise<void>;
beforeAll(async () => {
  leave = await enterFolder();
});
afterAll(() => leave());

describe.each(["spire-server/validate", "spire-agent/validate"])("%s", (group) => {
  test.each(casesOf(group).map((recorded) => [recorded.id, recorded] as const))(
    "%s",
    async (id, recorded) => {
      await writeFiles(recorded);
      const { exitCode, stdout, stderr } = await validate(recorded);
      const actual = { exitCode, stdout, error: withoutAdditions(stderr) };
      const expected = {
        exitCode: recorded.exitCode,
        stdout: recorded.stdout,
        error: wholeLines(normalise(recorded.stderr)),
      };
      const difference = configDifferences[id];
      if (!difference) return expect(actual).toEqual(expected);
      expect(actual).not.toEqual(expected);
      expect(actual).toEqual({ exitCode: difference.exitCode, stdout: "", error: difference.error });
    },
  );
});

/** The error of the last log line, which is why the program ended. */
function logError(stdout: string): string {
  const last = stdout.trimEnd().split("\n").at(-1) ?? "";
  const [, text = ""] = /level=error msg="\w+ crashed" error=("(?:\\.|[^"\\])*")/.exec(last) ?? [];
  return text === "" ? "" : withoutAdditions(String(JSON.parse(text)));
}

/** A process of its own, since a log goes to the process's standard output. */
async function run({ command, argv }: RecordedCase, untilPrinted: string | undefined): Promise<Run> {
  const program = command.replace("spire-", "");
  const child = Bun.spawn([process.execPath, main, program, ...argv], {
    cwd: process.cwd(),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", TZ: "UTC" },
  });
  let stdout = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    stdout += decoder.decode(chunk, { stream: true });
    if (untilPrinted !== undefined && stdout.includes(untilPrinted)) child.kill("SIGTERM");
  }
  return { stdout, stderr: await child.stderr.text(), exitCode: await child.exited };
}

/** What servers and agents of the recorded files would make. */
const written = ["vdata", "vsock", "avdata", "avwl"];

/** Recorded runs that went on; ours are stopped once this is logged. */
const goOn: Readonly<Record<string, string>> = {
  "spire-server/run-bad/missing-bind-address": "Starting Server APIs",
  "spire-server/run-bad/default-x509-svid-ttl-240h": "Starting Server APIs",
};

describe.each(["spire-server/run-bad", "spire-agent/run-bad"])("%s", (group) => {
  test.each(casesOf(group).map((recorded) => [recorded.id, recorded] as const))(
    "%s",
    async (id, recorded) => {
      for (const folder of written) rmSync(folder, { recursive: true, force: true });
      await writeFiles(recorded);
      const untilPrinted = goOn[id];
      const { exitCode, stdout, stderr } = await run(recorded, untilPrinted);
      const { exitCode: expectedCode, error } = runDifferences[id] ?? {
        exitCode: untilPrinted === undefined ? recorded.exitCode : 0,
        error: logError(recorded.stdout),
      };
      const outcome = { exitCode, error: logError(stdout), stderr: withoutAdditions(stderr) };
      expect(outcome).toEqual({
        exitCode: expectedCode,
        error,
        stderr: wholeLines(normalise(recorded.stderr)),
      });
      if (untilPrinted !== undefined) expect(stdout).toContain(untilPrinted);
      else if (!runDifferences[id]) expect(written.filter((folder) => existsSync(folder))).toEqual([]);
    },
  );
});
