/** Signal numbers of this system, and which signals the process was started to ignore. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";

/** @throws Error for a signal that this system doesn't have. */
export function signalNumber(name: NodeJS.Signals): number {
  const number = constants.signals[name];
  if (number === undefined) throw new Error(`no signal ${name} on ${process.platform}`);
  return number;
}

/**
 * Whether the signal is none of this process' business: a hang-up that it was started to ignore, as under
 * nohup(1). False where the system doesn't tell. (Scripts start background jobs with SIGINT ignored, but one that
 * sends it means it.)
 */
export function isDeclined(name: NodeJS.Signals): boolean {
  if (name !== "SIGHUP") return false;
  try {
    const [, mask = "0"] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    return ((BigInt(`0x${mask}`) >> BigInt(signalNumber(name) - 1)) & 1n) === 1n;
  } catch {
    return false;
  }
}

/** What asks a process to end, on purpose or because its terminal is gone. */
const endSignals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** The first signal that asks this process to end. Later ones are taken, too: nothing is cut short. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of endSignals.filter((name) => !isDeclined(name))) process.on(signal, resolve);
  });
}
