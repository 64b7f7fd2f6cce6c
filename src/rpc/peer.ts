/** The process at the other end of a Unix socket, from the kernel, bound to its connection (Linux). */
import { dlopen, type Pointer, ptr } from "bun:ffi";
import { closeSync, readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { SpireError } from "../core/errors.ts";
import type { PeerProcess } from "./service.ts";

/** socket(7): the same on x86-64 and arm64. */
const afUnix = 1;
const sockStream = 1;
const solSocket = 1;
const soPeercred = 17;
/** Linux 6.5: a file descriptor of the very process that connected. */
const soPeerpidfd = 77;
/** poll(2). A pidfd turns readable when its process has ended. */
const pollIn = 1;
const mostPolls = 100;

const cLibraries = [
  "libc.so.6",
  `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`,
  "libc.so",
] as const;

const cFunctions = {
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
} as const;

/** A peer with what its connection has to give back when it ends. */
export interface PeerHandle extends PeerProcess {
  /** Closes the pidfd; afterwards the process counts as gone. Harmless when repeated. */
  release(): void;
}

export interface PeerReader {
  /**
   * Asks the kernel who opened this accepted connection.
   * @throws SpireError INTERNAL when the socket has no descriptor to ask; PERMISSION_DENIED for a process in
   * another PID namespace, which the kernel reports as PID 0.
   */
  read(socket: Socket): PeerHandle;
}

export interface PeerReaderOptions {
  /** False leaves pidfds aside, as on a kernel before 6.5. */
  readonly pidfd?: boolean;
}

/** Opens the C library; one reader serves any number of listeners. */
export function createPeerReader({ pidfd = true }: PeerReaderOptions = {}): PeerReader {
  const kernel = openKernel();
  const usePidfd = pidfd && kernel.hasPeerPidfd();
  return {
    read(socket) {
      const fd = descriptorOf(socket);
      const [pid, uid, gid] = kernel.option(fd, soPeercred, 3) ?? [];
      if (pid === undefined || uid === undefined || gid === undefined) {
        throw new SpireError("INTERNAL", "could not read the peer credentials of a Unix socket");
      }
      if (pid <= 0) {
        throw new SpireError(
          "PERMISSION_DENIED",
          "the calling process is in a PID namespace not visible here",
        );
      }
      // The uid and gid are unsigned; 4294967295 must not turn into -1.
      const identity = { pid, uid: uid >>> 0, gid: gid >>> 0 };
      if (!usePidfd) return { ...identity, ...watchStartTime(pid) };
      const peerFd = kernel.option(fd, soPeerpidfd, 1)?.[0];
      // Refused: the process is gone already, and whoever has its PID now is somebody else.
      return { ...identity, ...(peerFd === undefined ? goneAlready : watchPidfd(peerFd, kernel.readable)) };
    },
  };
}

/**
 * The descriptor of an accepted socket. Bun keeps it where Node.js does, on the handle; nothing documents that,
 * so its absence is an error and never a guess.
 */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  if (typeof fd !== "number" || fd < 0) {
    throw new SpireError(
      "INTERNAL",
      "the descriptor of an accepted socket is not where this runtime keeps it",
    );
  }
  return fd;
}

interface Kernel {
  /** `words` 32-bit integers of a socket option; undefined when the kernel refuses. */
  option(fd: number, name: number, words: number): readonly number[] | undefined;
  readable(fd: number): boolean;
  /** Whether the kernel gives a pidfd of a socket's peer. */
  hasPeerPidfd(): boolean;
}

function openKernel(): Kernel {
  const { getsockopt, poll, socketpair } = openCLibrary();
  // Buffers are made once: a call must not allocate, and none is re-entered. Each is a view of an ArrayBuffer:
  // the engine keeps small arrays without one elsewhere and moves them when it comes to need one.
  const value = new Int32Array(new ArrayBuffer(16));
  const length = new Uint32Array(new ArrayBuffer(4));
  const polled = new DataView(new ArrayBuffer(8));
  const valueAt: Pointer = ptr(value);
  const lengthAt: Pointer = ptr(length);
  const polledAt: Pointer = ptr(polled);
  function option(fd: number, name: number, words: number): readonly number[] | undefined {
    length[0] = words * 4;
    if (getsockopt(fd, solSocket, name, valueAt, lengthAt) !== 0) return undefined;
    return length[0] === words * 4 ? Array.from(value.subarray(0, words)) : undefined;
  }
  return {
    option,
    hasPeerPidfd() {
      if (socketpair(afUnix, sockStream, 0, valueAt) !== 0) return false;
      const [own = -1, other = -1] = value;
      const [peerFd] = option(own, soPeerpidfd, 1) ?? [];
      for (const fd of [own, other, peerFd]) if (fd !== undefined) closeSync(fd);
      return peerFd !== undefined;
    },
    readable(fd) {
      // struct pollfd { int fd; short events; short revents; }
      polled.setInt32(0, fd, true);
      polled.setInt16(4, pollIn, true);
      // A signal that is due interrupts even a poll that doesn't wait; what can't be told counts as gone.
      let ready = -1;
      for (let tries = 0; ready < 0 && tries < mostPolls; tries++) {
        polled.setInt16(6, 0, true);
        ready = poll(polledAt, 1, 0);
      }
      return ready !== 0;
    },
  };
}

function openCLibrary() {
  let cause: unknown;
  for (const name of cLibraries) {
    try {
      return dlopen(name, cFunctions).symbols;
    } catch (error) {
      cause = error;
    }
  }
  throw new SpireError("INTERNAL", "could not open the C library to read peer credentials", { cause });
}

type Watch = Pick<PeerHandle, "isAlive" | "release">;

const goneAlready: Watch = { isAlive: () => false, release() {} };

function watchPidfd(fd: number, readable: (fd: number) => boolean): Watch {
  let open = true;
  return {
    isAlive: () => open && !readable(fd),
    release() {
      if (!open) return;
      open = false;
      closeSync(fd);
    },
  };
}

/** A process is the same while its PID has the start time that it had at accept. */
function watchStartTime(pid: number): Watch {
  const started = startTimeOf(pid);
  let open = started !== undefined;
  return {
    isAlive: () => open && startTimeOf(pid) === started,
    release() {
      open = false;
    },
  };
}

/** Clock ticks since boot, as text; undefined when there is no such process or only its zombie (proc(5)). */
function startTimeOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The command in parentheses may hold anything, so fields are counted from the last one: state is field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
}
