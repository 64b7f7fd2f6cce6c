/** Takes the PROXY header off an accepted connection, before anything else reads from it. */
import type { Socket } from "node:net";
import { permissionDenied, SpireError } from "../core/errors.ts";
import type { IpRanges } from "../core/ip-address.ts";
import { type ProxyHeader, readProxyHeader } from "./proxy-protocol.ts";

/**
 * Whom a connection comes from by its PROXY header; undefined when it has none, or one without a client. As in
 * SPIRE, a trusted proxy needn't send one. What follows the header stays to be read.
 * @throws SpireError INVALID_ARGUMENT for a header that is none, PERMISSION_DENIED for one from an address that isn't
 *   trusted, CANCELLED when the connection ends before.
 */
export async function takeProxyHeader(socket: Socket, isTrusted: IpRanges): Promise<ProxyHeader["source"]> {
  let bytes = Buffer.alloc(0);
  for (;;) {
    bytes = Buffer.concat([bytes, await nextBytes(socket)]);
    const trusted = isTrusted(socket.remoteAddress ?? "");
    const header = trusted ? readProxyHeader(bytes) : refuseHeader(bytes);
    if (header === "incomplete") continue;
    const rest = header === "absent" ? bytes : bytes.subarray(header.length);
    if (rest.length > 0) socket.unshift(rest);
    return header === "absent" ? undefined : header.source;
  }
}

/** No TLS begins as a header does, not even with its first byte. */
function refuseHeader(bytes: Buffer): "absent" {
  if (readProxyHeader(bytes) === "absent") return "absent";
  throw permissionDenied("a PROXY header from an address that is not in proxy_protocol_trusted_cidrs");
}

function nextBytes(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      socket.off("readable", onReadable);
      socket.off("end", onEnd);
      socket.off("close", onEnd);
      act();
    };
    const onReadable = () => {
      const bytes: unknown = socket.read();
      if (bytes instanceof Buffer) settle(() => resolve(bytes));
    };
    const onEnd = () =>
      settle(() => reject(new SpireError("CANCELLED", "the connection ended within its PROXY header")));
    socket.on("readable", onReadable);
    socket.on("end", onEnd);
    socket.on("close", onEnd);
  });
}
