/** A Unix datagram socket as systemd listens at, for tests. */
import { ptr } from "bun:ffi";
import { openLibc } from "../../src/modes/dev/libc.ts";

export interface NotifySocket {
  /** All datagrams that came since the last look. */
  received(): readonly string[];
  close(): void;
}

const dontWait = 0x40;

/** @param address a path, or an abstract name after `@`. @throws Error when it can't be had. */
export function listenForNotifications(address: string): NotifySocket {
  const libc = openLibc({
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  const name = Buffer.from(address.startsWith("@") ? `\0${address.slice(1)}` : `${address}\0`);
  const where = Buffer.concat([Buffer.from([1, 0]), name]);
  const socket = libc.socket(1, 2, 0);
  if (libc.bind(socket, ptr(where), where.length) !== 0) throw new Error(`could not listen at ${address}`);
  const buffer = Buffer.alloc(4_096);
  return {
    received() {
      const datagrams: string[] = [];
      for (;;) {
        const length = Number(libc.recv(socket, ptr(buffer), BigInt(buffer.length), dontWait));
        if (length < 0) return datagrams;
        datagrams.push(buffer.toString("utf8", 0, length));
      }
    },
    close: () => void libc.close(socket),
  };
}
