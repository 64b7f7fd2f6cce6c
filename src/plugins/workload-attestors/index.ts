/** What turns a process into selectors: the contract, and the instances by name. */
import type { Selector } from "../../core/selector.ts";

/** The process at the other end of a Unix socket, as the kernel reported it when it connected. */
export interface WorkloadProcess {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface WorkloadAttestor {
  readonly name: string;
  /**
   * Selectors of the process; none when it has nothing that this attestor knows.
   * @throws SpireError when it could not look (the runtime is down, the process is gone).
   */
  attest(process: WorkloadProcess, signal: AbortSignal): Promise<readonly Selector[]>;
}
