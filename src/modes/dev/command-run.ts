/** Runs a user's command beside an instance: its signals, its exit code, and no process of it left at the end. */
import { constants } from "node:os";
import type { Clock } from "../../core/clock.ts";
import { sleep } from "../../core/clock.ts";
import { onParentDeath } from "./parent-process.ts";
import { descendantsOf, isInForeground, isRunning, type ProcessRef } from "./process-tree.ts";
import { isDeclined, signalNumber } from "./signals.ts";

/** Milliseconds between asking a process to end and ending it. */
const graceMs = 5_000;
const pollMs = 20;
const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
const ending: readonly string[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
/** What a terminal sends to the command as well. */
const fromTerminal: readonly string[] = ["SIGINT", "SIGHUP", "SIGQUIT"];
const notFound = 127;

export interface CommandOptions {
  readonly argv: readonly string[];
  /** Added to this process' own. */
  readonly env: Readonly<Record<string, string>>;
  /** Starts this program's `dev exec-tied`, which makes the command end with this process. */
  readonly tie: (parent: number) => readonly string[];
  /** The process that started this one. */
  readonly parent: number;
  readonly clock: Clock;
  readonly say: (message: string) => void;
}

/** @returns the command's exit code; 128 and the signal's number when a signal ended it. */
export async function runCommand(options: CommandOptions): Promise<number> {
  const { argv, env, clock } = options;
  const tied = process.platform === "linux" ? options.tie(process.pid) : [];
  const child = spawn([...tied, ...argv], env);
  if (!child) {
    options.say(`${argv[0]}: command not found`);
    return notFound;
  }
  const below = new Map<number, ProcessRef>();
  const remember = () => {
    for (const ref of descendantsOf(child.pid)) below.set(ref.pid, ref);
  };
  const unforward = forwardSignals((signal) => {
    if (ending.includes(signal)) remember();
    if (!(fromTerminal.includes(signal) && isInForeground())) child.kill(signal);
  });
  const over = new AbortController();
  const unfollow = onParentDeath(options.parent, () => {
    remember();
    child.kill("SIGTERM");
    void sleep(clock, graceMs, over.signal).then(() => {
      if (!over.signal.aborted) child.kill("SIGKILL");
    });
  });
  await child.exited;
  over.abort();
  unforward();
  unfollow();
  await endAll([...below.values()], clock);
  const { exitCode, signalCode } = child;
  if (signalCode === null) return exitCode ?? 1;
  return 128 + (typeof signalCode === "number" ? signalCode : signalNumber(signalCode));
}

function spawn(argv: string[], env: Readonly<Record<string, string>>) {
  try {
    return Bun.spawn(argv, { stdio: ["inherit", "inherit", "inherit"], env: { ...process.env, ...env } });
  } catch {
    return undefined;
  }
}

/** @returns the function that ends the forwarding. */
function forwardSignals(forward: (signal: NodeJS.Signals) => void): () => void {
  const signals = forwarded.filter((name) => name in constants.signals && !isDeclined(name));
  for (const signal of signals) process.on(signal, forward);
  return () => {
    for (const signal of signals) process.off(signal, forward);
  };
}

/** Ends what the command left behind when it was told to end: asks first, then makes sure. */
async function endAll(refs: readonly ProcessRef[], clock: Clock): Promise<void> {
  const deadline = clock.now() + graceMs;
  signalAll(refs.filter(isRunning), "SIGTERM");
  while (refs.some(isRunning) && clock.now() < deadline) await sleep(clock, pollMs);
  signalAll(refs.filter(isRunning), "SIGKILL");
}

function signalAll(refs: readonly ProcessRef[], signal: NodeJS.Signals): void {
  for (const { pid } of refs) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself.
    }
  }
}
