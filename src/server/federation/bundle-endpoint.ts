/** The bundle endpoint: this trust domain's bundle over HTTPS (SPIFFE Federation, section 5). */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, type TlsOptions, type Server as TlsServer } from "node:tls";
import { Hono } from "hono";
import type { Clock } from "../../core/clock.ts";
import { createConnectionLimit } from "../../core/connection-limit.ts";
import { SpireError } from "../../core/errors.ts";
import { formatGoDuration } from "../../core/go-text.ts";
import { networkOf } from "../../core/ip-address.ts";
import type { Logger } from "../../core/log.ts";
import { formatSpiffeBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { connectionShare } from "../../rpc/descriptors.ts";
import { tlsFloor } from "../../rpc/tls.ts";
import { acmeProtocol, onceAsked } from "./acme/challenge.ts";
import type { EndpointCertificate } from "./endpoint-certificate.ts";

export interface BundleEndpointOptions {
  /** IP address or host name to listen on. */
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  /** Seconds between two fetches that clients are told to keep. */
  readonly refreshHintSeconds: number;
  /** Started and stopped with the endpoint. */
  readonly certificate: EndpointCertificate;
  readonly bundle: () => TrustBundle;
  /** Refuses key exchanges that don't withstand quantum computers. */
  readonly requirePqKem?: boolean;
  /** Connections that may stand at a time; 1,000 unless said, or a quarter of the descriptors. */
  readonly maxConnections?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface BundleEndpoint {
  /** `host:port`, with the port that was taken. */
  readonly address: string;
  close(): Promise<void>;
}

/** What a connection may take from its first byte to its last; a client needs one short answer. */
const connectionMs = 60_000;

/**
 * Asks no client for a certificate (SPIFFE Federation, section 5.2.2.3).
 * @throws SpireError UNAVAILABLE when the address can't be listened at.
 */
export async function listenBundleEndpoint(options: BundleEndpointOptions): Promise<BundleEndpoint> {
  const { certificate, clock, log } = options;
  const routes = createRoutes(options);
  const http = createHttpServer((request, response) => void answer(routes, request, response, log));
  const tls = createTlsServers(options, (socket) => void http.emit("connection", socket));
  const sockets = new Set<Socket>();
  const limit = createConnectionLimit<Socket>(options.maxConnections ?? connectionShare(1 / 4), (network) =>
    log.debug("Too many connections to the bundle endpoint", { caller_addr: network }),
  );
  const listener = createTcpServer((socket) => {
    sockets.add(socket);
    const cancelTimer = clock.after(connectionMs, () => socket.destroy());
    socket.once("close", () => {
      cancelTimer();
      sockets.delete(socket);
      limit.remove(socket);
    });
    socket.on("error", (error) => log.debug("Bundle endpoint connection failed", { error }));
    limit.add(socket, networkOf(socket.remoteAddress ?? ""));
    tls.accept(socket);
  });

  let address: string;
  try {
    address = await listen(listener, options);
  } catch (error) {
    tls.close();
    throw error;
  }
  listener.on("error", (error) => log.error("Bundle endpoint failed", { error }));
  log.info("Serving bundle endpoint", {
    addr: address,
    refresh_hint: formatGoDuration(options.refreshHintSeconds * 1_000),
  });
  certificate.start();
  return {
    address,
    async close() {
      await certificate.stop();
      tls.close();
      const closed = new Promise((resolve) => listener.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

interface TlsServers {
  /** Goes on with a connection that was accepted, or ends it when there is nothing to show yet. */
  accept(socket: Socket): void;
  close(): void;
}

/**
 * The runtime's HTTPS server can't change its certificate, a TLS server can; HTTP is spoken on its connections. Nor can
 * it choose a certificate by what the client asks for, so who validates the domain name gets a server of its own.
 */
function createTlsServers(options: BundleEndpointOptions, serve: (socket: Socket) => void): TlsServers {
  const { certificate, requirePqKem = false, log } = options;
  const { challenge } = certificate;
  const floor = tlsFloor(requirePqKem);
  let main: TlsServer | undefined;
  const create = (context: TlsOptions, onConnection: (socket: Socket) => void): TlsServer =>
    createTlsServer(context, onConnection).on("tlsClientError", (error) =>
      log.debug("Bundle endpoint connection failed", { error }),
    );
  const follow = () => {
    const pair = certificate.current();
    if (!pair) return;
    if (main) main.setSecureContext({ ...pair, ...floor });
    else main = create({ ...pair, ...floor, ALPNProtocols: ["http/1.1"] }, serve);
  };
  follow();
  const stopFollowing = certificate.onChange(follow);
  const goOn = (server: TlsServer | undefined, socket: Socket) => {
    if (server) server.emit("connection", socket);
    else socket.destroy();
  };
  const validate = (socket: Socket) => {
    const pair = challenge?.();
    // What the ACME service can do is not ours to say; and its handshake is all that counts (RFC 8737, section 3).
    const context = pair && { ...pair, ...tlsFloor(false), ALPNProtocols: [acmeProtocol] };
    goOn(context && create(context, (validator) => validator.end()), socket);
  };
  return {
    accept(socket) {
      if (!challenge) return goOn(main, socket);
      onceAsked(socket, (isValidation) => (isValidation ? validate(socket) : goOn(main, socket)));
    },
    close: stopFollowing,
  };
}

/** `GET /` and nothing else. */
function createRoutes({
  bundle,
  refreshHintSeconds,
}: Pick<BundleEndpointOptions, "bundle" | "refreshHintSeconds">): Hono {
  const routes = new Hono();
  routes.get("/", (context) => {
    const document = formatSpiffeBundle({ ...bundle(), refreshHint: refreshHintSeconds });
    return context.body(document, 200, { "Content-Type": "application/json" });
  });
  routes.all("/", (context) => context.text("method not allowed\n", 405, { Allow: "GET" }));
  routes.notFound((context) => context.text("not found\n", 404));
  return routes;
}

async function answer(
  routes: Hono,
  { method = "GET", url = "/" }: IncomingMessage,
  response: ServerResponse,
  log: Logger,
): Promise<void> {
  try {
    const { status, headers, body } = await ask(routes, method, url);
    response.writeHead(status, { ...headers, "Content-Length": body.length });
    response.end(method === "HEAD" ? undefined : body);
  } catch (error) {
    log.error("Bundle endpoint could not answer", { error });
    response.destroy();
  }
}

async function ask(routes: Hono, method: string, url: string) {
  const target = URL.parse(url.startsWith("/") ? `https://bundle-endpoint${url}` : url);
  if (!target) return { status: 400, headers: {}, body: Buffer.from("bad request\n") };
  // Others are refused alike, and not all of them can be put into a Request.
  const asked = method === "GET" || method === "HEAD" ? method : "POST";
  const answer = await routes.fetch(new Request(target.href, { method: asked }));
  const headers = Object.fromEntries(answer.headers);
  return { status: answer.status, headers, body: Buffer.from(await answer.arrayBuffer()) };
}

function listen(server: Server, { host, port }: BundleEndpointOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const at = (number: number) => `${host.includes(":") ? `[${host}]` : host}:${number}`;
    const failed = (cause: Error) => {
      const message = `bundle endpoint could not listen at ${at(port)}: ${cause.message}`;
      reject(new SpireError("UNAVAILABLE", message, { cause }));
    };
    server.once("error", failed);
    server.listen({ host, port }, () => {
      server.off("error", failed);
      const bound = server.address();
      resolve(at(typeof bound === "object" && bound !== null ? bound.port : port));
    });
  });
}
