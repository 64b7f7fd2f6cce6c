/** What the tests of this folder share: a service of plain bytes, an HTTP/2 client without manners, a CA. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import type { LogFields, Logger } from "../core/log.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { createIssuer, issueAgentSvid, issueDownstreamCa, issueSelfSignedCa } from "../core/x509/issue.ts";
import type { MethodDefinition } from "./service.ts";
import type { PeerBundle, TlsIdentity } from "./tls.ts";

const asText = (bytes: Buffer): string => bytes.toString();
const asBytes = (text: string): Buffer => Buffer.from(text);

const method = <Req extends boolean, Res extends boolean>(
  name: string,
  requestStream: Req,
  responseStream: Res,
) => ({
  path: `/test.v1.Test/${name}`,
  requestStream,
  responseStream,
  requestSerialize: asBytes,
  requestDeserialize: asText,
  responseSerialize: asBytes,
  responseDeserialize: asText,
});

/** Messages are text. */
export const testDefinition = {
  echo: method("Echo", false, false),
  watch: method("Watch", false, true),
  talk: method("Talk", true, true),
} as const satisfies Record<string, MethodDefinition<string, string>>;

export interface Workspace {
  readonly path: string;
  file(name: string): string;
  remove(): void;
}

export function createWorkspace(): Workspace {
  const path = mkdtempSync(join(tmpdir(), "spire-rpc-"));
  return {
    path,
    file: (name) => join(path, name),
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
}

export interface LogLine extends LogFields {
  readonly level: string;
  readonly message: string;
}

/** A logger that keeps its lines. */
export function createRecordingLogger(): Logger & { readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const loggerWith = (fixed: LogFields): Logger => {
    const at = (level: string) => (message: string, fields?: LogFields) => {
      lines.push({ ...fixed, ...fields, level, message });
    };
    return {
      error: at("error"),
      warn: at("warning"),
      info: at("info"),
      debug: at("debug"),
      with: (fields) => loggerWith({ ...fixed, ...fields }),
    };
  };
  return { lines, ...loggerWith({}) };
}

/** A promise with its ends in hand, so that a test can wait for an event. */
export function createGate<T = void>() {
  return Promise.withResolvers<T>();
}

export interface RawClient {
  readonly socket: Socket;
  /** Opens a stream with a whole request; stream IDs are 1, 3, 5 … */
  call(streamId: number, name: string, request: string): void;
  reset(streamId: number): void;
  /** Resolves when the connection is over. */
  readonly closed: Promise<void>;
}

const frameTypes = { data: 0, headers: 1, reset: 3, settings: 4 } as const;
const endStream = 1;
const endHeaders = 4;

/** HTTP/2 by hand (RFC 9113): never reads, never grants more window than the first 65,535 bytes. */
export function connectRaw(path: string): RawClient {
  const socket = connect(path);
  const closed = createGate();
  socket.on("error", () => {});
  socket.on("close", () => closed.resolve());
  socket.pause();
  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  socket.write(frame(frameTypes.settings, 0, 0));
  return {
    socket,
    closed: closed.promise,
    call(streamId, name, request) {
      const message = Buffer.alloc(5 + request.length);
      message.writeUInt32BE(request.length, 1);
      message.write(request, 5);
      socket.write(frame(frameTypes.headers, endHeaders, streamId, requestHeaders(name)));
      socket.write(frame(frameTypes.data, endStream, streamId, message));
    },
    reset(streamId) {
      socket.write(frame(frameTypes.reset, 0, streamId, Buffer.from([0, 0, 0, 8])));
    },
  };
}

function frame(type: number, flags: number, streamId: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(body.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, body]);
}

/** Literal fields without indexing (RFC 7541, section 6.2.2). */
function requestHeaders(name: string): Buffer {
  const fields = [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", `/test.v1.Test/${name}`],
    [":authority", "localhost"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
  ];
  return Buffer.concat(
    fields.flatMap(([key = "", value = ""]) => [
      Buffer.from([0, key.length]),
      Buffer.from(key),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]),
  );
}

export interface TestAuthority {
  readonly bundle: PeerBundle;
  issue(id: SpiffeId, options?: { nowSeconds?: number; intermediate?: boolean }): Promise<TlsIdentity>;
}

/** A trust domain's CA with a day to live, and SVIDs of an hour signed by it. */
export async function createTestAuthority(
  trustDomain: TrustDomain,
  nowSeconds: number,
): Promise<TestAuthority> {
  const day = 86_400;
  const key = await generateKey("ec-p256");
  const root = await issueSelfSignedCa({ key, trustDomain, ttlSeconds: day }, nowSeconds);
  const rootIssuer = createIssuer(key, root.der, []);
  const lowerKey = await generateKey("ec-p256");
  const lower = await issueDownstreamCa(
    rootIssuer,
    {
      spiffeId: `spiffe://${trustDomain}` as SpiffeId,
      publicKeyInfo: exportPublicKeyInfo(lowerKey.publicKey),
      ttlSeconds: day,
      chainLength: 1,
    },
    nowSeconds,
  );
  const lowerIssuer = createIssuer(lowerKey, lower.der, [lower.der]);
  return {
    bundle: { trustDomain, x509Authorities: [{ der: root.der, tainted: false }] },
    async issue(spiffeId, { nowSeconds: at = nowSeconds, intermediate = false } = {}) {
      const issuer = intermediate ? lowerIssuer : rootIssuer;
      const own = await generateKey("ec-p256");
      const publicKeyInfo = exportPublicKeyInfo(own.publicKey);
      const { der } = await issueAgentSvid(issuer, { spiffeId, publicKeyInfo, ttlSeconds: 3_600 }, at);
      return { chain: [der, ...issuer.upstreamChain], privateKey: own.privateKey };
    },
  };
}
