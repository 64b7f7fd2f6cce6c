/** The bundle endpoint: this trust domain's bundle over HTTPS with the server's SVID (profile https_spiffe). */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { createServer as createTlsServer, type SecureContextOptions, type Server } from "node:tls";
import { Hono } from "hono";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { formatSpiffeBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { minimumTlsVersion, pemOf } from "../../rpc/tls.ts";
import type { ServerIdentity } from "../identity.ts";

export interface BundleEndpointOptions {
  /** IP address or host name to listen on. */
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  /** Seconds between two fetches that clients are told to keep. */
  readonly refreshHintSeconds: number;
  readonly identity: Pick<ServerIdentity, "current" | "onChange">;
  readonly bundle: () => TrustBundle;
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
  const { identity, clock, log } = options;
  const routes = createRoutes(options);
  const http = createHttpServer((request, response) => void answer(routes, request, response, log));
  const context = (): SecureContextOptions => ({
    ...pemOf(identity.current()),
    minVersion: minimumTlsVersion,
  });
  // The runtime's HTTPS server can't change its certificate, a TLS server can; HTTP is spoken on its connections.
  const tls = createTlsServer({ ...context(), ALPNProtocols: ["http/1.1"] }, (socket) =>
    http.emit("connection", socket),
  );
  const sockets = new Set<Socket>();
  tls.on("connection", (socket: Socket) => {
    sockets.add(socket);
    const cancelTimer = clock.after(connectionMs, () => socket.destroy());
    socket.once("close", () => {
      cancelTimer();
      sockets.delete(socket);
    });
  });
  tls.on("tlsClientError", (error) => log.debug("Bundle endpoint connection failed", { error }));
  const stopFollowing = identity.onChange(() => tls.setSecureContext(context()));

  let address: string;
  try {
    address = await listen(tls, options);
  } catch (error) {
    stopFollowing();
    throw error;
  }
  tls.on("error", (error) => log.error("Bundle endpoint failed", { error }));
  log.info("Serving bundle endpoint", { addr: address, refresh_hint: `${options.refreshHintSeconds}s` });
  return {
    address,
    async close() {
      stopFollowing();
      const closed = new Promise((resolve) => tls.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
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
