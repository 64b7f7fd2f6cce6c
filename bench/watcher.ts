/** A watching workload in a process of its own. */
import { join } from "node:path";
import { root } from "../scripts/run.ts";
import { startChild } from "../test/interop/processes.ts";

export interface Update {
  /** Milliseconds since the Unix epoch, with fractions. */
  readonly at: number;
  /** SPIFFE IDs. */
  readonly ids: readonly string[];
}

export interface Watcher extends AsyncDisposable {
  /** The next update that fulfils the condition. */
  until(condition: (ids: readonly string[]) => boolean): Promise<Update>;
}

/** Resolves once the process is looking for the socket. */
export async function startWatcher(socket: string): Promise<Watcher> {
  const child = startChild([process.execPath, join(root, "bench/load/watch.ts"), socket]);
  await child.next();
  return {
    async until(condition) {
      for (;;) {
        const update = (await child.next()) as Update;
        if (condition(update.ids)) return update;
      }
    },
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
