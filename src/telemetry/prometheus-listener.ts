/** Serves metrics to Prometheus over HTTP or HTTPS; every path answers with them, as SPIRE has it. */
import { constants } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type SecureContextOptions, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type Connection, createConnections } from "./connections.ts";

/** How the listener shows itself, and whom it lets in. */
export interface PrometheusTls {
  /** Certificate and key as they are now. */
  context(): SecureContextOptions;
  /** Calls back after `context()` changed; the function returned ends that. */
  onChange(listener: () => void): () => void;
  /**
   * Judges the client of a connection by its certificate, at its beginning and with each request; throws to refuse it.
   * Undefined = no one is asked for one.
   */
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

/** What a connection may take between two requests: Prometheus comes back every minute or so. */
const idleMs = 5 * 60_000;

/** @throws SpireError UNAVAILABLE when the address can't be listened at. */
export async function listenPrometheus(options: PrometheusListenerOptions): Promise<PrometheusListener> {
  const { host, port, tls, clock, log } = options;
  const accepted = createConnections("Prometheus", clock, log);
  /** By the stream on which HTTP is spoken. */
  const connections = new WeakMap<object, Connection>();
  const http = createHttpServer((request, response) => {
    // A certificate that held when the connection opened may have ended since.
    if (!isAllowed(request.socket)) return;
    connections.get(request.socket)?.keep(idleMs);
    answer(options.text, request, response);
  });

  function isAllowed(socket: Socket): boolean {
    if (!tls?.verify) return true;
    try {
      tls.verify(socket as TLSSocket);
      return true;
    } catch (error) {
      log.warn("Prometheus client refused", { error, caller_addr: socket.remoteAddress });
      socket.destroy();
      return false;
    }
  }

  const serve = (stream: Socket, connection: Connection | undefined): void => {
    if (connection) connections.set(stream, connection);
    if (isAllowed(stream)) http.emit("connection", stream);
  };
  const secured = tls && createTlsLayer(tls, serve, log);
  const listener = createTcpServer((socket) => {
    const connection = accepted.add(socket);
    if (secured) secured.accept(socket, connection);
    else serve(socket, connection);
  });
  let address: string;
  try {
    address = await listen(listener, host, port);
  } catch (error) {
    secured?.stop();
    throw error;
  }
  listener.on("error", (error) => log.error("Prometheus listener failed", { error }));
  return {
    address,
    async close() {
      secured?.stop();
      const closed = new Promise((resolve) => listener.close(resolve));
      accepted.destroyAll();
      await closed;
    },
  };
}

interface TlsLayer {
  accept(socket: Socket, connection: Connection): void;
  stop(): void;
}

/**
 * The runtime's HTTPS server can't change its certificate, a TLS server can; HTTP is spoken on its connections. It does
 * not listen itself: a client that never begins TLS would be known to nobody.
 */
function createTlsLayer(
  tls: PrometheusTls,
  serve: (stream: Socket, connection: Connection | undefined) => void,
  log: Logger,
): TlsLayer {
  // A resumed session would be reported with the certificate, and the verdict, of the connection before it.
  const context = () => ({ ...tls.context(), secureOptions: constants.SSL_OP_NO_TICKET });
  const client = { requestCert: tls.verify !== undefined, rejectUnauthorized: false };
  const pending = new Map<string, Connection>();
  const server = createTlsServer({ ...context(), ...client, ALPNProtocols: ["http/1.1"] }, (stream) =>
    serve(stream, pending.get(portOf(stream))),
  );
  server.on("tlsClientError", (error) => log.debug("Prometheus connection failed", { error }));
  return {
    accept(socket, connection) {
      const name = portOf(socket);
      pending.set(name, connection);
      socket.once("close", () => {
        if (pending.get(name) === connection) pending.delete(name);
      });
      server.emit("connection", socket);
    },
    stop: tls.onChange(() => server.setSecureContext(context())),
  };
}

/** Names a connection, also where the runtime wraps its socket. */
const portOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`;

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
