/** Dying at an exact moment: a program that is killed (SIGKILL) at the n-th call of the system that changes a file. */

/** Calls that leave on the disk what a restart finds; with their forms that end in `at`. */
export const writingCalls = ["mkdir", "pwrite64", "ftruncate", "fsync", "rename", "link", "unlink"] as const;

export type WritingCall = (typeof writingCalls)[number];

/**
 * Words that stand before a command, so that it is killed when it is about to make its n-th (1, 2 …) such call.
 * Calls are counted for each thread by itself.
 */
const killedAt = (call: WritingCall, n: number): readonly string[] => [
  "strace",
  // The program stays the child of whoever starts this.
  "--daemonize",
  "--follow-forks",
  "--quiet=all",
  "--output=/dev/null",
  `--trace=/^${call}`,
  `--inject=/^${call}:signal=KILL:when=${n}`,
];

/** SQLite writes page by page, and most of these points differ in nothing but the page. */
const nextPoint = (call: WritingCall, n: number): number =>
  call === "pwrite64" ? n + Math.ceil(n / 4) : n + 1;

/**
 * Runs `attempt` for each point of `call` until one survives. `attempt` resolves to whether the program came alive
 * to where it was to come; `n` names the attempt.
 * @returns how many times it was killed.
 */
export async function atEachPoint(
  call: WritingCall,
  attempt: (wrap: readonly string[], n: number) => Promise<boolean>,
): Promise<number> {
  let killed = 0;
  for (let n = 1; !(await attempt(killedAt(call, n), n)); n = nextPoint(call, n)) killed++;
  return killed;
}
