/** What has to be undone when something that was put together step by step ends, or fails to start. */
import type { Logger } from "../core/log.ts";

export interface Cleanup {
  add(step: () => Promise<void>): void;
  /** Runs the steps, newest first; a failing one is logged and doesn't stop the others. Runs once. */
  run(): Promise<void>;
}

export function createCleanup(log: Logger): Cleanup {
  const steps: (() => Promise<void>)[] = [];
  let running: Promise<void> | undefined;
  async function runAll(): Promise<void> {
    for (let step = steps.pop(); step; step = steps.pop()) {
      await step().catch((error: unknown) => log.error("Shutting down failed", { error }));
    }
  }
  return {
    add: (step) => void steps.push(step),
    run: () => (running ??= runAll()),
  };
}
