/** How many of the descriptors that this process may have are for connections of strangers. */
import { readFileSync } from "node:fs";

const mostConnections = 1_000;

/** A share of the descriptors, such as a half, and no more than anybody needs. */
export function connectionShare(share: number): number {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readLimits()) ?? [];
  return soft === undefined
    ? mostConnections
    : Math.max(1, Math.min(mostConnections, Math.floor(Number(soft) * share)));
}

/** proc(5); empty where there is no such file. */
function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "latin1");
  } catch {
    return "";
  }
}
