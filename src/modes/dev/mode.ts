/** What the `dev` command drives: an instance with its log, a command beside it, the signals of the process. */
import { relative } from "node:path";
import { systemClock } from "../../core/clock.ts";
import { createLog } from "../../telemetry/logging.ts";
import { type DevSettings, type RunningDev, startDev } from "../dev.ts";
import { runCommand } from "./command-run.ts";
import { untilSignal } from "./signals.ts";

export interface DevProcess {
  /** Words by which the user can call this program again. */
  readonly calledAs: readonly string[];
  start(settings: DevSettings, verbose: boolean): Promise<RunningDev>;
  /** @returns the command's exit code. */
  runBeside(
    argv: readonly string[],
    instance: Pick<RunningDev, "env">,
    say: (message: string) => void,
  ): Promise<number>;
  untilSignal(): Promise<NodeJS.Signals>;
}

export function createDevProcess(): DevProcess {
  // Asked first of all: a parent that ends during the start must be noticed, too.
  const parent = process.ppid;
  const isCompiled = Bun.main.startsWith(compiledRoot);
  const self = isCompiled ? [process.execPath] : [process.execPath, Bun.main];
  return {
    calledAs: isCompiled ? [process.argv0] : ["bun", relative(process.cwd(), Bun.main)],
    start: (settings, verbose) => startDev(settings, { clock: systemClock, log: openLog(verbose) }),
    runBeside: (argv, { env }, say) =>
      runCommand({
        argv,
        env,
        tie: (pid) => [...self, "dev", "exec-tied", String(pid)],
        parent,
        clock: systemClock,
        say,
      }),
    untilSignal,
  };
}

/** Where Bun keeps the files of a compiled program. */
const compiledRoot = "/$bunfs/";

/** On standard error; quiet unless something is wrong or more is wanted. */
function openLog(verbose: boolean) {
  return createLog({
    level: verbose ? "debug" : "warning",
    format: "pretty",
    colors: process.stderr.isTTY && !process.env["NO_COLOR"],
    write: (line) => void process.stderr.write(line),
  }).logger;
}
