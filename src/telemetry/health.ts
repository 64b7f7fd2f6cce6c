/** Health over HTTP: whether a program is alive, and whether it is ready, with what its parts say. */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTcpServer, type Server } from "node:net";
import { Hono } from "hono";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { type Connection, createConnections } from "./connections.ts";

/** What a part of the program says about itself; `undefined` details are none. */
export interface PartHealth {
  /** False = only a restart helps. */
  readonly live: boolean;
  /** False = it can't do its work now. */
  readonly ready: boolean;
  /** Such as `{ get_bundle_err: "…" }`. */
  readonly details?: Readonly<Record<string, string>>;
}

/** By SPIRE's name of the part, such as `server.ca`. One that throws is neither live nor ready. */
export type HealthChecks = Readonly<Record<string, () => Promise<PartHealth>>>;

export interface HealthListenerOptions {
  /** IP address or host name. */
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly livePath: string;
  readonly readyPath: string;
  /** Asked anew for each answer, but what is known is good for a second. */
  readonly checks: HealthChecks;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface HealthListener {
  /** `host:port`, with the port that was taken. */
  readonly address: string;
  close(): Promise<void>;
}

/** What a connection may take between two questions. */
const idleMs = 60_000;
/** Anybody who reaches the port may ask, and some checks sign or read the database. */
const goodForMs = 1_000;

/**
 * `GET` of either path answers 200 or 500, with the details of each part as JSON, as SPIRE does.
 * @throws SpireError UNAVAILABLE when the address can't be listened at.
 */
export async function listenHealth(options: HealthListenerOptions): Promise<HealthListener> {
  const log = options.log.with({ subsystem_name: "health" });
  const routes = createRoutes(options, createLook({ ...options, log }));
  const accepted = createConnections("health", options.clock, log);
  const connections = new WeakMap<object, Connection>();
  const http = createHttpServer((request, response) => {
    connections.get(request.socket)?.keep(idleMs);
    answer(routes, request, response).catch((error: unknown) => {
      log.debug("Health question failed", { error });
      response.destroy();
    });
  });
  const listener = createTcpServer((socket) => {
    connections.set(socket, accepted.add(socket));
    http.emit("connection", socket);
  });
  const address = await listen(listener, options);
  listener.on("error", (error) => log.error("Health listener failed", { error }));
  log.info("Serving health checks", { address });
  return {
    address,
    async close() {
      const closed = new Promise((resolve) => listener.close(resolve));
      accepted.destroyAll();
      await closed;
    },
  };
}

/** A question is its method and its path. */
async function answer(routes: Hono, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = URL.parse(request.url ?? "", "http://health");
  const { status, headers, body } = await ask(routes, url?.pathname ?? "/", request.method ?? "GET");
  response.writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
}

async function ask(routes: Hono, path: string, method: string) {
  const found = await routes.request(path, { method });
  return { status: found.status, headers: Object.fromEntries(found.headers), body: await found.text() };
}

type Found = Readonly<Record<string, PartHealth>>;

function createRoutes({ livePath, readyPath }: HealthListenerOptions, look: () => Promise<Found>): Hono {
  const questions: Readonly<Record<string, "live" | "ready">> = { [livePath]: "live", [readyPath]: "ready" };
  const routes = new Hono();
  routes.get("*", async (context) => {
    const question = Object.hasOwn(questions, context.req.path) ? questions[context.req.path] : undefined;
    if (!question) return context.notFound();
    const found = await look();
    const isWell = Object.values(found).every((part) => part[question]);
    const details = Object.fromEntries(
      Object.entries(found)
        .map(([name, part]) => [name, part.details ?? {}] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
    return context.body(`${JSON.stringify(details)}\n`, isWell ? 200 : 500, {
      "Content-Type": "application/json",
    });
  });
  routes.notFound((context) =>
    context.body("404 page not found\n", 404, {
      "Content-Type": "text/plain; charset=utf-8",
      "X-Content-Type-Options": "nosniff",
    }),
  );
  return routes;
}

/** Asks all parts, at most once a second, and logs what has changed. */
function createLook({ checks, clock, log }: HealthListenerOptions): () => Promise<Found> {
  let known: { readonly until: number; readonly found: Promise<Found> } | undefined;
  let failing: ReadonlySet<string> = new Set();

  async function ask(): Promise<Found> {
    const asked = Object.entries(checks).map(async ([name, check]) => [name, await answerOf(check)] as const);
    const answers = await Promise.all(asked);
    const now = answers.filter(([, part]) => !part.live || !part.ready);
    for (const [check, { details }] of now) {
      if (!failing.has(check))
        log.warn("Health check failed", { check, details: JSON.stringify(details ?? {}) });
    }
    for (const check of failing) {
      if (!now.some(([name]) => name === check)) log.info("Health check recovered", { check });
    }
    failing = new Set(now.map(([name]) => name));
    return Object.fromEntries(answers);
  }

  return () => {
    if (!known || clock.now() >= known.until) known = { until: clock.now() + goodForMs, found: ask() };
    return known.found;
  };
}

async function answerOf(check: () => Promise<PartHealth>): Promise<PartHealth> {
  try {
    return await check();
  } catch (error) {
    return { live: false, ready: false, details: { err: SpireError.from(error).message } };
  }
}

function listen(listener: Server, { host, port }: HealthListenerOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const failed = (cause: Error) => {
      const message = `could not listen at ${joinAddress(host, port)} (health_checks.bind_port): ${cause.message}`;
      reject(new SpireError("UNAVAILABLE", message, { cause }));
    };
    listener.once("error", failed);
    // "localhost" may be an IPv6 address first; probes and SPIRE mean the other one.
    listener.listen({ host: host === "localhost" ? "127.0.0.1" : host, port }, () => {
      listener.off("error", failed);
      const bound = listener.address();
      resolve(joinAddress(host, typeof bound === "object" && bound !== null ? bound.port : port));
    });
  });
}

const joinAddress = (host: string, port: number): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
