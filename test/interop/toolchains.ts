/** Builds the programs of other languages that the interoperability tests run; results stay in .cache. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { root, run } from "../../scripts/run.ts";

const cache = join(root, ".cache", "interop");

/** Compiles the Go module in `folder` (from the repository's root) and returns the program's real path. */
export async function buildGo(folder: string, name: string): Promise<string> {
  await mkdir(cache, { recursive: true });
  const program = join(await realpath(cache), name);
  const env = { GOTOOLCHAIN: "local", CGO_ENABLED: "0" };
  await run(["go", "build", "-buildvcs=false", "-mod=readonly", "-o", program, "."], {
    cwd: join(root, folder),
    env,
  });
  return program;
}

/** A copy of a program under another name, which is another workload to the `unix:path` selector. */
export async function copyProgram(program: string, name: string): Promise<string> {
  const copy = join(cache, name);
  await rm(copy, { force: true });
  await copyFile(program, copy);
  return realpath(copy);
}

export interface Python {
  /** The interpreter of the virtual environment; the command to run. */
  readonly command: string;
  /** What the kernel says is running: the interpreter behind the link. */
  readonly executable: string;
}

/** A virtual environment with the packages of test/interop/python/requirements.txt. */
export async function preparePython(): Promise<Python> {
  const requirements = join(root, "test/interop/python/requirements.txt");
  const hash = createHash("sha256").update(await readFile(requirements));
  const folder = join(cache, `python-${hash.digest("hex").slice(0, 16)}`);
  const command = join(folder, "bin", "python");
  const ready = join(folder, "ready");
  if (!existsSync(ready)) {
    await rm(folder, { recursive: true, force: true });
    await run(["python3", "-m", "venv", folder]);
    await run([
      command,
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "-r",
      requirements,
    ]);
    await writeFile(ready, "");
  }
  return { command, executable: await realpath(command) };
}
