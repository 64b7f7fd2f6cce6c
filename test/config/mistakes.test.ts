/** Configuration files with one mistake each: one line that says what and where, exit code 1, nothing written. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type TemporaryFolder, temporaryFolder } from "../interop/folders.ts";
import { agentMistakes, goodAgent, goodServer, type Mistake, serverMistakes } from "./mistakes.ts";

const main = join(import.meta.dir, "../../src/main.ts");

function fileOf({ file, line, replace }: Mistake, good: string): string {
  if (file !== undefined) return file;
  if (replace) {
    expect(good).toContain(replace[0]);
    return good.replace(...replace);
  }
  const [option = ""] = (line ?? "").split(" ");
  const present = new RegExp(`^  ${option} = .*$`, "m");
  if (present.test(good)) return good.replace(present, `  ${line}`);
  return good.replace(/^}$/m, `  ${line}\n}`);
}

async function run(program: string, folder: string) {
  const child = Bun.spawn([process.execPath, main, program, "run", "-config", "v.conf"], {
    cwd: folder,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { exitCode: await child.exited, stdout, stderr };
}

/** What is wrong stands on standard error, or, as SPIRE has it, in the log's last line. */
function messageOf({ stdout, stderr }: { stdout: string; stderr: string }): string {
  if (stderr !== "") return stderr.trimEnd();
  const [, error = '""'] = /crashed" error=("(?:\\.|[^"\\])*")\n$/.exec(stdout) ?? [];
  return String(JSON.parse(error));
}

const programs = [
  ["server", goodServer, serverMistakes],
  ["agent", goodAgent, agentMistakes],
] as const;

describe.each(programs)("of the %s", (program, good, mistakes) => {
  let folder: TemporaryFolder;
  beforeAll(async () => {
    folder = await temporaryFolder();
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  test.each(mistakes.map((mistake) => [mistake.name, mistake] as const))("%s", async (_, mistake) => {
    await Bun.write(join(folder.path, "v.conf"), fileOf(mistake, good));
    const outcome = await run(program, folder.path);
    const message = messageOf(outcome);
    for (const part of mistake.says) expect(message).toContain(part);
    expect(message.replace("what is not supported yet:\n", "").split("\n")).toHaveLength(1);
    expect(outcome.exitCode).toBe(1);
    expect(await readdir(folder.path)).toEqual(["v.conf"]);
  });
});
