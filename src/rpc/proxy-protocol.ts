/** Headers of the PROXY protocol, versions 1 and 2, by which a load balancer says who its client is. */
import { invalidArgument } from "../core/errors.ts";
import { canonicalIp, formatIp, ipFamily } from "../core/ip-address.ts";

export interface ProxyHeader {
  /** Bytes that the header takes at the beginning of the connection. */
  readonly length: number;
  /** Undefined when the proxy speaks for itself (its health checks), or can't name its client. */
  readonly source?: { readonly host: string; readonly port: number };
}

/** `incomplete`: what is there may become a header. `absent`: it can't. */
export type ProxyHeaderState = "incomplete" | "absent" | ProxyHeader;

const v1Start = Buffer.from("PROXY ", "latin1");
const v2Start = Buffer.from("0d0a0d0a000d0a515549540a", "hex");
/** The longest line of version 1, with its end (section 2.1). */
const longestLine = 107;
/** Signature, version and command, family and transport, length (section 2.2). */
const v2HeadBytes = 16;
/** Addresses take 216 bytes at most; a proxy may add facts about the TLS that it ended, which nobody reads here. */
const longestV2Bytes = 4_096;

/**
 * Reads the header that a connection may begin with
 * (https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt, section 2).
 * @param bytes all that has come in so far.
 * @throws SpireError INVALID_ARGUMENT for what begins as a header and is none.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeaderState {
  const read = begins(bytes, v1Start) ? readV1 : begins(bytes, v2Start) ? readV2 : undefined;
  if (!read) return "absent";
  return bytes.length === 0 ? "incomplete" : read(bytes);
}

function begins(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
}

const malformed = (what: string) => invalidArgument(`malformed PROXY header: ${what}`);

function readV1(bytes: Buffer): "incomplete" | ProxyHeader {
  const end = bytes.subarray(0, longestLine).indexOf("\r\n");
  if (end < 0) {
    if (bytes.length >= longestLine) throw malformed(`its line has more than ${longestLine} bytes`);
    return "incomplete";
  }
  const length = end + 2;
  const [, family, ...fields] = bytes.subarray(0, end).toString("latin1").split(" ");
  if (family === "UNKNOWN") return { length };
  if (family !== "TCP4" && family !== "TCP6") throw malformed("its protocol is none of TCP4, TCP6, UNKNOWN");
  const [source = "", destination = "", sourcePort = "", destinationPort = ""] = fields;
  if (fields.length !== 4) throw malformed("it needs two addresses and two ports");
  const version = family === "TCP4" ? 4 : 6;
  if (ipFamily(source) !== version || ipFamily(destination) !== version) {
    throw malformed(`its addresses are not both of ${family}`);
  }
  const port = readPort(sourcePort);
  readPort(destinationPort);
  return { length, source: { host: canonicalIp(source) ?? source, port } };
}

function readPort(text: string): number {
  if (!/^(0|[1-9]\d{0,4})$/.test(text) || Number(text) > 65_535) throw malformed("a port is no port number");
  return Number(text);
}

/** Address families by their number: the bytes of an address. */
const addressLengths: Readonly<Record<number, number>> = { 1: 4, 2: 16 };
const unspecified = 0;
const unix = 3;
const [local, proxied] = [0, 1];
/** Stream and datagram. */
const highestTransport = 2;

function readV2(bytes: Buffer): "incomplete" | ProxyHeader {
  if (bytes.length < v2HeadBytes) return "incomplete";
  const version = bytes.readUInt8(12) >> 4;
  const command = bytes.readUInt8(12) & 15;
  const family = bytes.readUInt8(13) >> 4;
  if (version !== 2) throw malformed(`its version is ${version}`);
  if (command !== local && command !== proxied) throw malformed(`its command is ${command}`);
  if (family > unix || (bytes.readUInt8(13) & 15) > highestTransport) {
    throw malformed("its address family or transport is unknown");
  }
  const length = v2HeadBytes + bytes.readUInt16BE(14);
  if (length > longestV2Bytes) throw malformed(`it has more than ${longestV2Bytes} bytes`);
  if (bytes.length < length) return "incomplete";
  if (command === local || family === unspecified || family === unix) return { length };
  return { length, source: readV2Source(bytes.subarray(v2HeadBytes, length), family) };
}

function readV2Source(addresses: Buffer, family: number) {
  const length = addressLengths[family];
  if (length === undefined || addresses.length < 2 * length + 4) throw malformed("its addresses are cut off");
  return { host: formatIp([...addresses.subarray(0, length)]), port: addresses.readUInt16BE(2 * length) };
}
