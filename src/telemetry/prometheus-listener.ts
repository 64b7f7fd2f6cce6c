/** Serves metrics to Prometheus over HTTP or HTTPS; every path answers with them, as SPIRE has it. */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";

/** How the listener shows itself, and whom it lets in. */
export interface PrometheusTls {
  /** Certificate and key as they are now. */
  context(): SecureContextOptions;
  /** Calls back after `context()` changed; the function returned ends that. */
  onChange(listener: () => void): () => void;
  /** Judges the client of a connection by its certificate, throws to refuse it; undefined = no one is asked. */
  readonly verify?: (socket: TLSSocket) => void;
}

export interface PrometheusListenerOptions {
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly tls?: PrometheusTls;
  /** The metrics in Prometheus' text format. */
  readonly text: () => string;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface PrometheusListener {
  /** `host:port`, with the port that was taken. */
  readonly address: string;
  close(): Promise<void>;
}

/** What a connection may take before its first request, and between two: Prometheus comes back every minute or so. */
const idleMs = 5 * 60_000;

/** @throws SpireError UNAVAILABLE when the address can't be listened at. */
export async function listenPrometheus(options: PrometheusListenerOptions): Promise<PrometheusListener> {
  const { host, port, tls, clock, log } = options;
  const connections = new Map<Socket, () => void>();
  const http = createHttpServer((request, response) => {
    keepAlive(request.socket);
    answer(options.text, request, response);
  });

  /** Ends a connection that asks for nothing for too long. */
  function keepAlive(socket: Socket): void {
    connections.get(socket)?.();
    connections.set(
      socket,
      clock.after(idleMs, () => socket.destroy()),
    );
  }

  const serve = (socket: Socket): void => {
    keepAlive(socket);
    socket.on("error", (error) => log.debug("Prometheus connection failed", { error }));
    socket.once("close", () => {
      connections.get(socket)?.();
      connections.delete(socket);
    });
    http.emit("connection", socket);
  };
  // The runtime's HTTPS server can't change its certificate, a TLS server can; HTTP is spoken on its connections.
  const { listener, stop } = tls ? tlsListener(tls, serve, log) : tcpListener(serve);
  let address: string;
  try {
    address = await listen(listener, host, port);
  } catch (error) {
    stop();
    throw error;
  }
  listener.on("error", (error) => log.error("Prometheus listener failed", { error }));
  return {
    address,
    async close() {
      stop();
      const closed = new Promise((resolve) => listener.close(resolve));
      for (const socket of connections.keys()) socket.destroy();
      await closed;
    },
  };
}

interface OwnListener {
  readonly listener: Server;
  stop(): void;
}

const tcpListener = (serve: (socket: Socket) => void): OwnListener => ({
  listener: createTcpServer(serve),
  stop() {},
});

function tlsListener(tls: PrometheusTls, serve: (socket: Socket) => void, log: Logger): OwnListener {
  const { verify } = tls;
  const options = { ...tls.context(), requestCert: verify !== undefined, rejectUnauthorized: false };
  const listener = createTlsServer({ ...options, ALPNProtocols: ["http/1.1"] }, (socket) => {
    try {
      verify?.(socket);
    } catch (error) {
      log.warn("Prometheus client refused", { error, caller_addr: socket.remoteAddress });
      socket.destroy();
      return;
    }
    serve(socket);
  });
  listener.on("tlsClientError", (error) => log.debug("Prometheus connection failed", { error }));
  return { listener, stop: tls.onChange(() => listener.setSecureContext(tls.context())) };
}

const headers = { "Content-Type": "text/plain; version=0.0.4; charset=utf-8; escaping=underscores" };

function answer(text: () => string, request: IncomingMessage, response: ServerResponse): void {
  const zipped = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
  response.writeHead(200, { ...headers, ...(zipped && { "Content-Encoding": "gzip" }) });
  if (request.method === "HEAD") response.end();
  else response.end(zipped ? gzipSync(text()) : text());
}

function listen(listener: Server, host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const at = (number: number) => `${host.includes(":") ? `[${host}]` : host}:${number}`;
    const failed = (cause: Error) => {
      const message = `metrics for Prometheus: could not listen at ${at(port)}: ${cause.message}`;
      reject(new SpireError("UNAVAILABLE", message, { cause }));
    };
    listener.once("error", failed);
    listener.listen({ host, port }, () => {
      listener.off("error", failed);
      const bound = listener.address();
      resolve(at(typeof bound === "object" && bound !== null ? bound.port : port));
    });
  });
}
