/** From a process at the Workload API's socket to its selectors. */
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { Selector } from "../core/selector.ts";
import type { WorkloadAttestor } from "../plugins/workload-attestors/index.ts";
import type { PeerProcess } from "../rpc/service.ts";

export interface WorkloadAttestation {
  /**
   * What all attestors find, together. One that fails is logged and left out.
   *
   * @throws SpireError UNAVAILABLE when all of them fail, or when the process that connected is gone: whatever
   * was found may then be of another process with the same PID.
   */
  attest(process: PeerProcess, signal: AbortSignal): Promise<readonly Selector[]>;
}

/** What a process that can't be attested, or is gone, is told. */
export const attestationFailed = (cause?: unknown): SpireError =>
  new SpireError("UNAVAILABLE", "workload attestation failed", { cause });

export function createWorkloadAttestation(
  attestors: readonly WorkloadAttestor[],
  log: Logger,
): WorkloadAttestation {
  async function attestWith(
    attestor: WorkloadAttestor,
    process: PeerProcess,
    signal: AbortSignal,
  ): Promise<readonly Selector[] | undefined> {
    try {
      return await attestor.attest(process, signal);
    } catch (error) {
      if (!signal.aborted) {
        log.error(`workload attestor "${attestor.name}" failed`, { pid: process.pid, error });
      }
      return undefined;
    }
  }

  return {
    async attest(process, signal) {
      const results = await Promise.all(attestors.map((it) => attestWith(it, process, signal)));
      const found = results.filter((result) => result !== undefined);
      if (found.length === 0 || !process.isAlive()) throw attestationFailed();
      const [first] = found;
      return found.length === 1 && first ? first : found.flat();
    },
  };
}
