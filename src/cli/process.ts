/** The process that a program runs in: its streams, its signals, its end. */
import { basename } from "node:path";
import { type Group, type Program, runProgram, type Terminal } from "./command.ts";
import { untilStopped } from "./stop.ts";

const processTerminal: Terminal = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  readInput: () => Bun.stdin.text(),
  untilStopped: () =>
    untilStopped({
      onSignal(hear) {
        process.on("SIGINT", hear);
        process.on("SIGTERM", hear);
      },
      now: () => performance.now(),
      giveUp() {
        process.stderr.write("Asked to end once more: ending at once\n");
        process.exit(1);
      },
    }),
  env: process.env,
};

/** The trees by the names of the programs; the first one is what any other name gets. */
export interface Programs {
  readonly version: string;
  readonly trees: Readonly<Record<string, Group>>;
}

/** The program that `calledAs` (a path, or a link's name) stands for. */
export function programNamed({ version, trees }: Programs, calledAs: string): Program {
  const names = Object.keys(trees);
  const name = names.find((known) => known === basename(calledAs)) ?? names[0] ?? "";
  return { name, version, tree: trees[name] ?? { summary: "", commands: {} } };
}

/**
 * Runs the program that this process was called as, and ends the process with its exit code. A rejection that
 * nobody handled ends it as well: going on would mean in an unknown state.
 */
export async function runProcess(programs: Programs): Promise<void> {
  process.on("unhandledRejection", (reason) => {
    process.stderr.write(`Error: unhandled rejection: ${describe(reason)}\n`);
    process.exit(1);
  });
  // The project's own timers keep no process alive; a command that waits does.
  const alive = setInterval(() => {}, 2 ** 30);
  const program = programNamed(programs, process.argv0);
  const code = await runProgram(program, process.argv.slice(2), processTerminal);
  clearInterval(alive);
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(code);
}

const describe = (reason: unknown): string =>
  reason instanceof Error ? (reason.stack ?? reason.message) : String(reason);

/** A pipe may still hold what was written. */
const flushed = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => stream.write("", () => resolve()));
