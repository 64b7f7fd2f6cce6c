/** Sends datagrams to a Unix socket, which the runtime has no call for (Linux). */
import { ptr } from "bun:ffi";
import { openLibc } from "./dev/libc.ts";

/** The same on x86-64 and arm64. */
const afUnix = 1;
const sockDgram = 2;
const sockCloexec = 0o2000000;
const msgDontwait = 0x40;
const msgNosignal = 0x4000;
/** unix(7): of a path with its terminating zero, and of an abstract name with the zero before it. */
const longestNameBytes = 108;

export interface DatagramSender {
  /** False when nobody listens, or takes no more for the moment. */
  send(text: string): boolean;
  close(): void;
}

/**
 * @param address a path, or an abstract name after `@`.
 * @returns undefined for an address that can't be one, or when the system gives no socket.
 */
export function openDatagramSender(address: string): DatagramSender | undefined {
  const name = encodeAddress(address);
  if (!name) return undefined;
  const libc = openLibc({
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i64" },
    close: { args: ["i32"], returns: "i32" },
  });
  const socket = libc.socket(afUnix, sockDgram | sockCloexec, 0);
  if (socket < 0) return undefined;
  return {
    send(text) {
      const bytes = new TextEncoder().encode(text);
      const sent = libc.sendto(
        socket,
        ptr(bytes),
        BigInt(bytes.length),
        msgDontwait | msgNosignal,
        ptr(name),
        name.length,
      );
      return Number(sent) === bytes.length;
    },
    close: () => void libc.close(socket),
  };
}

/** struct sockaddr_un: the family in the machine's order (both are little-endian), then the name. */
function encodeAddress(address: string): Uint8Array | undefined {
  const isAbstract = address.startsWith("@");
  if (!isAbstract && !address.startsWith("/")) return undefined;
  const name = new TextEncoder().encode(isAbstract ? `\0${address.slice(1)}` : `${address}\0`);
  if (name.length > longestNameBytes) return undefined;
  const bytes = new Uint8Array(new ArrayBuffer(2 + name.length));
  bytes[0] = afUnix;
  bytes.set(name, 2);
  return bytes;
}
