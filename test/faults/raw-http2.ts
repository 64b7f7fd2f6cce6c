/** HTTP/2 by hand (RFC 9113), for clients without manners: what is sent and what is read is up to the test. */

export const frameTypes = { data: 0, headers: 1, reset: 3, settings: 4, goaway: 7, windowUpdate: 8 } as const;
export const flags = { endStream: 1, endHeaders: 4, acknowledged: 1 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly body: Buffer;
}

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export function encodeFrame(
  type: number,
  flags: number,
  streamId: number,
  body: Buffer = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(body.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, body]);
}

/** What every connection begins with: the preface and settings that leave everything at its default. */
export const encodeOpening = (): Buffer => Buffer.concat([preface, encodeFrame(frameTypes.settings, 0, 0)]);

/** Lets the other side send that many bytes more on the connection (stream 0) or on a stream. */
export function encodeWindow(streamId: number, bytes: number): Buffer {
  const body = Buffer.alloc(4);
  body.writeUInt32BE(bytes);
  return encodeFrame(frameTypes.windowUpdate, 0, streamId, body);
}

/** A whole gRPC request with one message, on a stream of its own. */
export function encodeCall(
  streamId: number,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  message: Buffer = Buffer.alloc(0),
): Buffer {
  const fields = {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "localhost",
    "content-type": "application/grpc",
    te: "trailers",
    ...headers,
  };
  const length = Buffer.alloc(5);
  length.writeUInt32BE(message.length, 1);
  return Buffer.concat([
    encodeFrame(frameTypes.headers, flags.endHeaders, streamId, encodeFields(fields)),
    encodeFrame(frameTypes.data, flags.endStream, streamId, Buffer.concat([length, message])),
  ]);
}

/** Literal fields without indexing (RFC 7541, section 6.2.2), of fewer than 127 bytes each. */
function encodeFields(fields: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(fields).flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]),
  );
}

/** Cuts what comes in into frames; takes any pieces. */
export function createFrameReader(): (bytes: Buffer) => readonly Frame[] {
  let rest = Buffer.alloc(0);
  return (bytes) => {
    rest = Buffer.concat([rest, bytes]);
    const frames: Frame[] = [];
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const end = 9 + rest.readUIntBE(0, 3);
      frames.push({
        type: rest.readUInt8(3),
        flags: rest.readUInt8(4),
        streamId: rest.readUInt32BE(5),
        body: rest.subarray(9, end),
      });
      rest = rest.subarray(end);
    }
    return frames;
  };
}

export const workloadApiPath = (method: string): string => `/SpiffeWorkloadAPI/${method}`;
export const securityHeader = { "workload.spiffe.io": "true" };
