/**
 * One GET of HTTP/1.1 (RFC 9112) on a connection that is open already. The runtime's HTTP client opens a connection
 * of its own even when it is given one, and so would talk to a peer that nobody has verified.
 */
import type { TLSSocket } from "node:tls";
import { SpireError } from "../../core/errors.ts";

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case; of a repeated one the last. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

/** Bytes of a whole answer. A bundle has a few thousand. */
const longestAnswer = 4 * 1024 * 1024;
/** Bytes up to the end of the head that counts. */
const longestHead = 16 * 1024;

/**
 * Sends the request and resolves to the answer. The caller destroys the socket, which also ends a wait.
 * @throws SpireError UNAVAILABLE when the answer breaks off or is none; RESOURCE_EXHAUSTED when it is too long.
 */
export function httpGet(socket: TLSSocket, url: URL): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    let parts: Buffer[] = [];
    let length = 0;
    let wanted = 0;
    let settled = false;
    const settle = (ended: boolean) => {
      if (settled) return;
      const received = Buffer.concat(parts);
      parts = [received];
      try {
        const reading = readAnswer(received, ended);
        if ("wanted" in reading) {
          wanted = reading.wanted;
          return;
        }
        resolve(reading);
      } catch (error) {
        reject(error);
      }
      settled = true;
    };
    socket.on("data", (part: Buffer) => {
      if (settled) return;
      parts.push(part);
      length += part.length;
      if (length > longestAnswer) {
        settled = true;
        reject(new SpireError("RESOURCE_EXHAUSTED", "the answer is too long"));
      } else if (length >= wanted) settle(false);
    });
    socket.once("end", () => settle(true));
    socket.once("close", () => settle(true));
    socket.once("error", (cause) => reject(new SpireError("UNAVAILABLE", cause.message, { cause })));
    socket.write(
      `GET ${url.pathname}${url.search} HTTP/1.1\r\nHost: ${url.host}\r\n` +
        "User-Agent: spire\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
    );
  });
}

const broken = (what: string) => new SpireError("UNAVAILABLE", `malformed HTTP answer: ${what}`);

/** The bytes that have to be there before it is worth while to look again; the end of the connection always is. */
interface Incomplete {
  readonly wanted: number;
}

/** Looking at each piece by itself would take time that grows with the square of their number. */
const somewhatMore = (length: number): Incomplete => ({ wanted: length + 1 + (length >> 3) });

function readAnswer(bytes: Buffer, ended: boolean): HttpAnswer | Incomplete {
  // Interim answers (RFC 9110, section 15.2) stand before the one that counts.
  for (let start = 0; ; ) {
    const end = bytes.indexOf("\r\n\r\n", start);
    if ((end < 0 ? bytes.length : end) > longestHead) throw broken("its head is too long");
    if (end < 0 && ended) throw broken("it breaks off");
    if (end < 0) return somewhatMore(bytes.length);
    const [statusLine = "", ...lines] = bytes.subarray(start, end).toString("latin1").split("\r\n");
    const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(statusLine)?.[1]);
    if (Number.isNaN(status)) throw broken("it has no status");
    start = end + 4;
    if (status >= 200) return readFinal(status, readHeaders(lines), bytes, start, ended);
  }
}

function readFinal(
  status: number,
  headers: ReadonlyMap<string, string>,
  bytes: Buffer,
  start: number,
  ended: boolean,
): HttpAnswer | Incomplete {
  const rest = bytes.subarray(start);
  const body = readBody(rest, headers);
  if (body) return { status, headers, body };
  const hasEnd = headers.has("content-length") || headers.has("transfer-encoding");
  if (ended && hasEnd) throw broken("it breaks off");
  if (ended) return { status, headers, body: rest };
  if (!hasEnd) return { wanted: Number.POSITIVE_INFINITY };
  return headers.has("transfer-encoding")
    ? somewhatMore(bytes.length)
    : { wanted: start + Number(headers.get("content-length")) };
}

function readHeaders(lines: readonly string[]): Map<string, string> {
  return new Map(
    lines.map((line) => {
      const colon = line.indexOf(":");
      if (colon < 1) throw broken("a header has no name");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
}

/** Undefined when the end isn't there yet, or is the end of the connection. */
function readBody(rest: Buffer, headers: ReadonlyMap<string, string>): Buffer | undefined {
  const encoding = headers.get("transfer-encoding");
  if (encoding !== undefined) {
    if (encoding.toLowerCase() !== "chunked") throw broken(`transfer encoding "${encoding}"`);
    return readChunks(rest);
  }
  const length = headers.get("content-length");
  if (length === undefined) return undefined;
  if (!/^\d{1,12}$/.test(length)) throw broken("its length is no number");
  return rest.length >= Number(length) ? rest.subarray(0, Number(length)) : undefined;
}

/** RFC 9112, section 7.1; trailers are left aside. */
function readChunks(bytes: Buffer): Buffer | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = bytes.subarray(at, lineEnd).toString("latin1").split(";")[0]?.trim() ?? "";
    if (!/^[\da-f]{1,8}$/i.test(size)) throw broken("a chunk has no size");
    const start = lineEnd + 2;
    const end = start + Number.parseInt(size, 16);
    if (end === start) return Buffer.concat(chunks);
    if (bytes.length < end + 2) return undefined;
    chunks.push(bytes.subarray(start, end));
    at = end + 2;
  }
}
