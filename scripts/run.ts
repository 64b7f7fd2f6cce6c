/** Runs other programs for the scripts of this folder. */
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const root = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Outcome {
  readonly exitCode: number;
  /** Standard output and standard error together, in the order of reading. */
  readonly output: string;
}

/** Runs a program to its end and collects what it printed. @throws Error when it cannot be started. */
export async function capture(command: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, output: stdout + stderr };
}

/** The same, for a program that must succeed; resolves to what it printed. @throws Error with its output. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, output } = await capture(command, options);
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with exit code ${exitCode}\n${output}`);
  return output;
}

/** Runs a program on the terminal of this one; resolves to its exit code. */
export async function stream(command: readonly string[], options: RunOptions = {}): Promise<number> {
  const child = Bun.spawn([...command], {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "inherit", "inherit"],
  });
  return child.exited;
}

/** A program that the project installed, such as `buf`. */
export const installed = (name: string): string => `${root}/node_modules/.bin/${name}`;

/** Ends the process with an error's message when `work` fails: the frame of a script. */
export async function script(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
