/** Connections of strangers to an HTTP listener: only so many at a time, and each only as long as it asks for something. */
import type { Socket } from "node:net";
import type { Clock } from "../core/clock.ts";
import { createConnectionLimit } from "../core/connection-limit.ts";
import { networkOf } from "../core/ip-address.ts";
import type { Logger } from "../core/log.ts";

export interface Connection {
  /** Counts its idle time anew. */
  keep(forMs: number): void;
}

export interface Connections {
  /** Takes a connection in, which then has its first 20 seconds. */
  add(socket: Socket): Connection;
  destroyAll(): void;
}

/** What one may take up to its first request. */
const firstMs = 20_000;
/** One or two programs ask; a flood must not use up the process's descriptors. */
const mostConnections = 100;

/** @param listener its name in the log, such as `Prometheus`. */
export function createConnections(listener: string, clock: Clock, log: Logger): Connections {
  const sockets = new Set<Socket>();
  const limit = createConnectionLimit<Socket>(mostConnections, (network) =>
    log.debug(`Too many ${listener} connections`, { caller_addr: network }),
  );
  return {
    add(socket) {
      let cancelTimer = () => {};
      const keep = (forMs: number) => {
        cancelTimer();
        cancelTimer = clock.after(forMs, () => socket.destroy());
      };
      sockets.add(socket);
      socket.on("error", (error) => log.debug(`${listener} connection failed`, { error }));
      socket.once("close", () => {
        cancelTimer();
        sockets.delete(socket);
        limit.remove(socket);
      });
      limit.add(socket, networkOf(socket.remoteAddress ?? ""));
      keep(firstMs);
      return { keep };
    },
    destroyAll() {
      for (const socket of sockets) socket.destroy();
    },
  };
}
