/** Listeners: a Unix socket whose callers are known processes, a TCP port whose callers may show an SVID. */
import { createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { ServerCredentials } from "@grpc/grpc-js";
import { createConnectionLimit } from "../core/connection-limit.ts";
import { SpireError } from "../core/errors.ts";
import { canonicalIp, type IpRanges, networkOf } from "../core/ip-address.ts";
import { connectionShare } from "./descriptors.ts";
import { createPeerReader } from "./peer.ts";
import { takeProxyHeader } from "./proxy-socket.ts";
import { createRpcServer, type RpcOptions, type RpcServer } from "./server.ts";
import { createServerTlsCredentials, type ServerTls, verifyClient } from "./tls.ts";
import { listenAtPath } from "./unix-socket.ts";

export interface Listener {
  /** The socket's path, or `host:port`. */
  readonly address: string;
  /** TCP only. */
  readonly port?: number;
  /** Accepts no more, lets calls end for `graceMs` (10,000 unless said), then ends them. */
  close(graceMs?: number): Promise<void>;
}

export interface UnixOptions extends RpcOptions {
  readonly path: string;
  /** Rights of the socket file, such as 0o777. */
  readonly mode: number;
  /** Rights of its directory, where that has to be made; 0o755 unless said. */
  readonly directoryMode?: number;
}

export interface TlsOptions extends RpcOptions {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  readonly tls: ServerTls;
  /** Load balancers whose PROXY headers say who connects; undefined = nobody sends any. */
  readonly trustedProxies?: IpRanges;
  /** Connections without an SVID that may stand at a time; 1,000 unless said, or half of the descriptors. */
  readonly maxUnproven?: number;
}

const defaultGraceMs = 10_000;
const defaultConnectionAgeMs = 180_000;
/** Finds peers that are gone without a word; a connection that is asked to go may stay for its streams. */
const defaultKeepaliveMs = 60_000;
/** Lower than a Unix socket's: each may hold a message of the largest size, and callers may be anonymous. */
const maxTcpStreams = 250;
const handshakeMs = 20_000;
/** A flood must not fill the log as well. */
const floodWarningMs = 60_000;

/**
 * Serves on a Unix socket. Each caller's process is read from the kernel when it connects; one in a PID
 * namespace that can't be seen from here is turned away.
 * @throws SpireError as `listenAtPath` does.
 */
export async function listenUnix(options: UnixOptions): Promise<Listener> {
  const { path, log } = options;
  const peers = createPeerReader();
  const rpc = createRpcServer(options, ServerCredentials.createInsecure());
  const listener = createServer((socket) => {
    try {
      const process = peers.read(socket);
      socket.once("close", process.release);
      rpc.identify(socket, { transport: "unix", address: path, process });
    } catch (error) {
      log.warn("Connection refused", { error });
      socket.destroy();
      return;
    }
    rpc.accept(socket);
  });
  const removeFile = await listenAtPath(listener, path, options);
  listener.on("error", (error) => log.error("Listener failed", { error, address: path }));
  return {
    address: path,
    async close(graceMs = defaultGraceMs) {
      removeFile();
      await closeBoth(listener, rpc, graceMs);
    },
  };
}

/**
 * Serves on a TCP port with TLS. A client's certificate is verified once, when its connection opens; one that
 * doesn't hold ends the connection unanswered, and a client without one is anonymous.
 * @throws SpireError UNAVAILABLE when the address can't be listened at.
 */
export async function listenTls(options: TlsOptions): Promise<Listener> {
  const { host, port, tls, log, clock = tls.clock } = options;
  const tlsCredentials = createServerTlsCredentials(tls);
  const rpc = createRpcServer(
    {
      maxConnectionAgeMs: defaultConnectionAgeMs,
      keepaliveMs: defaultKeepaliveMs,
      maxStreams: maxTcpStreams,
      clock,
      ...options,
    },
    tlsCredentials.credentials,
  );
  let nextWarning = 0;
  const unproven = createConnectionLimit<Socket>(options.maxUnproven ?? connectionShare(1 / 2), (host) => {
    if (clock.now() < nextWarning) return;
    nextWarning = clock.now() + floodWarningMs;
    log.warn("Too many connections without an SVID: ending the oldest of the address that has most", {
      caller_addr: host,
    });
  });
  /** By the address that the connection comes from, which names it. */
  const handshakes = new Map<string, Handshake>();
  rpc.http2Server.on("secureConnection", (socket: unknown) => {
    if (!(socket instanceof TLSSocket)) return;
    const handshake = handshakes.get(remoteAddress(socket));
    const address = handshake?.caller ?? remoteAddress(socket);
    handshake?.cancelTimer();
    try {
      const svid = verifyClient(socket, tls);
      rpc.identify(socket, { transport: "tcp", address, ...(svid && { svid }) });
      if (svid && handshake) unproven.remove(handshake.socket);
    } catch (error) {
      log.warn("Client certificate refused", { error, caller_addr: address });
      socket.destroy();
    }
  });
  const listener = createServer((socket) => {
    // Reset before it was accepted, as load balancers do when they look whether somebody listens.
    if (socket.remoteAddress === undefined) return void socket.destroy();
    const address = remoteAddress(socket);
    const cancelTimer = clock.after(handshakeMs, () => socket.destroy());
    const handshake: Handshake = { socket, caller: address, cancelTimer };
    handshakes.set(address, handshake);
    unproven.add(socket, networkOf(socket.remoteAddress));
    socket.once("close", () => {
      cancelTimer();
      // By now another connection may come from the same port.
      if (handshakes.get(address) === handshake) handshakes.delete(address);
      unproven.remove(socket);
    });
    socket.setNoDelay(true);
    if (!options.trustedProxies) return rpc.accept(socket);
    rpc.track(socket);
    takeProxyHeader(socket, options.trustedProxies).then(
      (source) => {
        if (socket.destroyed) return;
        if (source) {
          handshake.caller = joinAddress(source.host, source.port);
          unproven.add(socket, networkOf(source.host));
        }
        rpc.accept(socket);
      },
      (error) => {
        if (SpireError.from(error).code !== "CANCELLED") {
          log.warn("PROXY header refused", { error, caller_addr: address });
        }
        socket.destroy();
      },
    );
  });
  const bound = await listenAtPort(listener, host, port);
  listener.on("error", (error) => log.error("Listener failed", { error, address: bound.address }));
  return {
    ...bound,
    async close(graceMs = defaultGraceMs) {
      tlsCredentials.close();
      await closeBoth(listener, rpc, graceMs);
    },
  };
}

/** A connection from its acceptance to its end. */
interface Handshake {
  readonly socket: Socket;
  /** `host:port`; the one that a proxy names, where it does. */
  caller: string;
  /** Of the time that its client has to show who it is. */
  readonly cancelTimer: () => void;
}

async function closeBoth(listener: Server, rpc: RpcServer, graceMs: number): Promise<void> {
  listener.close();
  await rpc.close(graceMs);
}

function listenAtPort(
  listener: Server,
  host: string,
  port: number,
): Promise<{ address: string; port: number }> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error) => {
      const reason = `could not listen at ${joinAddress(host, port)}: ${cause.message}`;
      reject(new SpireError("UNAVAILABLE", reason, { cause }));
    };
    listener.once("error", failed);
    listener.listen({ host, port }, () => {
      listener.off("error", failed);
      const address = listener.address();
      const boundPort = typeof address === "object" && address !== null ? address.port : port;
      resolve({ address: joinAddress(host, boundPort), port: boundPort });
    });
  });
}

/** A client with IPv4 has an IPv4 address, also where the listener takes IPv6 besides. */
const remoteAddress = ({ remoteAddress: host = "", remotePort = 0 }: Socket): string =>
  joinAddress(canonicalIp(host) ?? host, remotePort);

/** `host:port`, with brackets around an IPv6 address (RFC 3986, section 3.2.2). */
const joinAddress = (host: string, port: number): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
