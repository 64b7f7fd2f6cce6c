/** Resident memory of `spire dev` that has served one workload and has nothing to do. */
import { readFile } from "node:fs/promises";
import { sameUser, startDev } from "../../test/interop/dev.ts";
import type { Row } from "../row.ts";
import { startWatcher } from "../watcher.ts";

const runs = 5;
const settleMs = 5_000;

/** VmRSS in MiB. Linux only. */
async function residentMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
}

async function idleMemory(): Promise<number> {
  await using dev = await startDev([{ spiffe_id: "spiffe://example.org/first", selectors: [sameUser] }]);
  await using watcher = await startWatcher(dev.facts.workload_api_socket);
  await watcher.until((ids) => ids.length === 1);
  await Bun.sleep(settleMs);
  return residentMemory(dev.process.pid);
}

export const memoryRows: readonly Row[] = [
  {
    name: "dev: idle memory (VmRSS)",
    unit: "MiB",
    async run() {
      const samples: number[] = [];
      for (let taken = 0; taken < runs; taken += 1) samples.push(await idleMemory());
      return samples;
    },
  },
];
