/** The processes below one, as /proc shows them, each told from a later one of the same number by its start. */
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessRef {
  readonly pid: number;
  /** Clock ticks after boot. */
  readonly startTime: string;
}

interface Stat extends ProcessRef {
  readonly state: string;
  readonly parent: number;
}

/** All descendants that live now; none where there is no /proc. */
export function descendantsOf(pid: number): ProcessRef[] {
  const children = new Map<number, Stat[]>();
  for (const stat of allProcesses()) children.set(stat.parent, [...(children.get(stat.parent) ?? []), stat]);
  const found: ProcessRef[] = [];
  const waiting = [pid];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const { pid: child, startTime } of children.get(next) ?? []) {
      found.push({ pid: child, startTime });
      waiting.push(child);
    }
  }
  return found;
}

/** A zombie does not count. */
export function isRunning({ pid, startTime }: ProcessRef): boolean {
  const stat = readStat(String(pid));
  return stat !== undefined && stat.startTime === startTime && stat.state !== "Z";
}

/** Whether this process is in the foreground of its terminal: then the terminal's signals reach its children too. */
export function isInForeground(): boolean {
  const fields = readFields("self");
  const [processGroup, foreground] = [fields?.[2], fields?.[5]];
  return processGroup === undefined ? process.stdin.isTTY : processGroup === foreground;
}

function allProcesses(): Stat[] {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => readStat(name) ?? []);
  } catch {
    return [];
  }
}

function readStat(pid: string): Stat | undefined {
  const [state, parent, , , , , , , , , , , , , , , , , , startTime] = readFields(pid) ?? [];
  if (state === undefined || parent === undefined || startTime === undefined) return undefined;
  return { pid: Number(pid), state, parent: Number(parent), startTime };
}

/** Of /proc/PID/stat, from the third field on: the second, the name, may hold anything. */
function readFields(pid: string): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}
