/** Where an instance's sockets lie: in its own directory, or a shorter one when their paths get too long. */
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** Bytes of a socket's path without the closing NUL (`sun_path` of sockaddr_un). */
const longestSocketPath = process.platform === "linux" ? 107 : 103;
const workloadApiFile = "agent.sock";
const serverFile = "server.sock";

export interface SocketDirectory {
  readonly workloadApi: string;
  readonly server: string;
  /** Set when the sockets lie elsewhere than asked; the directory is private and goes with the instance. */
  readonly fallback?: string;
  /** Removes what was made here, as far as it is empty. The sockets belong to their listeners. */
  release(): void;
}

/** @param wanted absolute or relative; made with 0700 when it is missing. */
export function openSocketDirectory(wanted: string, shortDirectory = "/tmp"): SocketDirectory {
  const path = resolve(wanted);
  if (Buffer.byteLength(join(path, serverFile)) > longestSocketPath) return openFallback(shortDirectory);
  const firstMade = mkdirSync(path, { recursive: true, mode: 0o700 });
  return {
    ...socketsIn(path),
    release() {
      if (firstMade !== undefined) removeEmpty(path, firstMade);
    },
  };
}

function openFallback(shortDirectory: string): SocketDirectory {
  const path = mkdtempSync(join(shortDirectory, "spire-"));
  return {
    ...socketsIn(path),
    fallback: path,
    release: () => rmSync(path, { recursive: true, force: true }),
  };
}

const socketsIn = (path: string) => ({
  workloadApi: join(path, workloadApiFile),
  server: join(path, serverFile),
});

/** From `path` up to `top`, each only when nothing is in it. */
function removeEmpty(path: string, top: string): void {
  try {
    rmdirSync(path);
    if (path !== top && existsSync(top)) removeEmpty(dirname(path), top);
  } catch {
    // Somebody else's files are in it: it stays.
  }
}

/**
 * The socket as SPIFFE_ENDPOINT_SOCKET names it (SPIFFE Workload Endpoint, section 4). Only what a URI can't hold
 * is escaped: not all clients undo it.
 */
export const socketUri = (path: string): string =>
  `unix://${path.replace(/[%?#\s\p{Cc}]/gu, (character) => encodeURIComponent(character))}`;
