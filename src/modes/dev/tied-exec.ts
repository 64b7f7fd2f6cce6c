/** Turns this process into a command that ends when the process which started it does. */
import { type Pointer, ptr, read } from "bun:ffi";
import { constants } from "node:os";
import { openLibc } from "./libc.ts";
import { signalNumber } from "./signals.ts";

/** prctl(2). */
const prSetPdeathsig = 1;
/** sigprocmask(2): the first value is Linux's SIG_SETMASK. */
const sigSetMask = 2;
const signalSetBytes = 128;
/** Exit codes of shells for a command that can't be run, and for one that isn't there. */
const cannotRun = 126;
const notFound = 127;

/** Why the command did not start. */
export interface ExecFailure {
  readonly exitCode: number;
  readonly message: string;
}

/**
 * Runs the command in place of this process (execvp(3)), with the same environment, files and terminal, and with
 * the signal handling that a fresh process has. The kernel kills it when `parent` ends. Returns only when the
 * command can't be run or `parent` is gone already. Linux only.
 */
export function execTied(argv: readonly string[], parent: number): ExecFailure {
  const libc = openLibc({
    prctl: { args: ["int", "u64", "u64", "u64", "u64"], returns: "int" },
    signal: { args: ["int", "ptr"], returns: "ptr" },
    sigprocmask: { args: ["int", "ptr", "ptr"], returns: "int" },
    execvp: { args: ["ptr", "ptr"], returns: "int" },
    __errno_location: { args: [], returns: "ptr" },
  });
  libc.prctl(prSetPdeathsig, signalNumber("SIGKILL"), 0, 0, 0);
  if (process.ppid !== parent) return { exitCode: 1, message: "the process that started this one has ended" };
  // What the runtime ignores would stay ignored across the exec.
  for (const name of ["SIGPIPE", "SIGXFSZ"] as const) libc.signal(signalNumber(name), null);
  libc.sigprocmask(sigSetMask, ptr(new Uint8Array(signalSetBytes)), null);
  const texts = argv.map((argument) => Buffer.from(`${argument}\0`));
  const pointers = new BigUint64Array(texts.length + 1);
  for (const [index, text] of texts.entries()) pointers[index] = BigInt(ptr(text));
  libc.execvp(ptr(texts[0] ?? Buffer.from("\0")), ptr(pointers));
  return failureOf(argv[0] ?? "", libc.__errno_location());
}

function failureOf(file: string, location: Pointer | bigint | null): ExecFailure {
  const errno = typeof location === "number" ? read.i32(location, 0) : 0;
  if (errno === constants.errno.ENOENT) return { exitCode: notFound, message: `${file}: command not found` };
  const [name] = Object.entries(constants.errno).find(([, number]) => number === errno) ?? ["unknown error"];
  return { exitCode: cannotRun, message: `${file}: can't be run (${name})` };
}
