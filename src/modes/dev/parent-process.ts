/** Notices that the process which started this one is gone. */
import { openLibc } from "./libc.ts";
import { signalNumber } from "./signals.ts";

/** prctl(2). */
const prSetPdeathsig = 1;
const pollIntervalMs = 500;

/**
 * Calls back once when the parent process has ended. On Linux the kernel tells, by SIGURG: programs ignore it by
 * default and terminals never send it, so it can't be mistaken for a user's wish. It also comes when only the
 * thread ended that started this process, so it counts when there really is another parent. Elsewhere the parent
 * is looked at twice a second.
 */
export function onParentDeath(parent: number, callback: () => void): () => void {
  let cancel = () => {};
  const look = () => {
    if (process.ppid === parent) return;
    cancel();
    callback();
  };
  if (process.platform === "linux") {
    process.on("SIGURG", look);
    cancel = () => process.off("SIGURG", look);
    const { prctl } = openLibc({ prctl: { args: ["int", "u64", "u64", "u64", "u64"], returns: "int" } });
    prctl(prSetPdeathsig, signalNumber("SIGURG"), 0, 0, 0);
  } else {
    const timer = setInterval(look, pollIntervalMs);
    timer.unref();
    cancel = () => clearInterval(timer);
  }
  // It may have ended before the kernel was asked.
  look();
  return () => cancel();
}
