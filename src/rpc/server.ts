/** A gRPC server that is handed its connections, with the caller of each. */
import { constants, type Http2Server, type Http2Session } from "node:http2";
import type { Socket } from "node:net";
import { Server, type ServerCredentials, type ServerOptions } from "@grpc/grpc-js";
import { type Clock, sleep, systemClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import {
  type AuditCall,
  type BeforeCall,
  createDispatcher,
  type ObserveCall,
  type RefuseCall,
} from "./calls.ts";
import type { BoundService, Caller } from "./service.ts";

export interface RpcOptions {
  readonly services: readonly BoundService[];
  readonly log: Logger;
  readonly refuse?: RefuseCall;
  readonly before?: BeforeCall;
  readonly observe?: ObserveCall;
  readonly audit?: AuditCall;
  /** 4 MiB unless said; a larger request is refused with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes?: number;
  /** Age in ms at which a connection is asked to go (GOAWAY); calls on it end normally. */
  readonly maxConnectionAgeMs?: number;
  /** Silence in ms after which the other side is asked for a sign of life; never, unless said. */
  readonly keepaliveMs?: number;
  /** Calls that one connection may have open at a time. */
  readonly maxStreams?: number;
  readonly clock?: Clock;
}

const defaultMaxMessageBytes = 4 * 1024 * 1024;
const defaultMaxStreams = 1_000;
/** Cancelled streams that one connection may average; a core serves about 15,000 calls a second. */
const resetsPerSecond = 20_000;

/** Ahead of the end of its SVID by this much, a client is asked to connect anew. */
const goodbyeMs = 1_000;

/** For the answers of calls that are cut off to reach clients that listen. */
const lastWordsMs = 100;

export interface RpcServer {
  readonly http2Server: Http2Server;
  /** Serves an accepted connection. */
  accept(socket: Socket): void;
  /** Ends the connection with the server, if it is not served before. */
  track(socket: Socket): void;
  /** Names the caller of a connection, before its first call. */
  identify(socket: object, caller: Caller): void;
  /** Lets calls end for up to `graceMs` ms, then ends every connection. */
  close(graceMs: number): Promise<void>;
}

export function createRpcServer(options: RpcOptions, credentials: ServerCredentials): RpcServer {
  const { log, clock = systemClock } = options;
  const callerKey = Symbol("caller");
  const callers = new WeakMap<object, Caller>();
  const connections = new Set<Socket>();
  const sessions = new Set<Http2Session>();

  /** The HTTP/2 session hands out a stand-in for its socket, which passes reads on, so no map finds it. */
  function callerOf(session: object): Caller | undefined {
    const known = callers.get(session);
    if (known) return known;
    const socket: unknown = Reflect.get(session, "socket");
    const caller: unknown =
      typeof socket === "object" && socket !== null ? Reflect.get(socket, callerKey) : undefined;
    if (!caller) return undefined;
    callers.set(session, caller as Caller);
    endWithSvid(session, caller as Caller);
    return callers.get(session);
  }

  /**
   * A client that keeps its connection for longer than its SVID lasts would lose its rights, so it is made to come
   * back with the newer one. SPIRE's nested servers are such clients.
   */
  function endWithSvid(session: object, { svid }: Caller): void {
    if (!svid || !isSession(session)) return;
    const left = svid.expiresAt * 1000 - clock.now();
    const cancelTimer = clock.after(left - Math.min(goodbyeMs, left / 2), () => askToGo(session));
    session.once("close", cancelTimer);
  }
  const isSession = (it: object): it is Http2Session => (sessions as ReadonlySet<object>).has(it);

  const dispatcher = createDispatcher({ ...options, callerOf });
  const server = new Server({ ...serverOptions(options), interceptors: [dispatcher.interceptor] });
  dispatcher.register(server);
  allowResets(server);
  const injector = server.createConnectionInjector(credentials);
  const http2Server = http2ServerOf(server);
  http2Server.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  // Bun takes a Go client's goodbye (GOAWAY) for a protocol error, so that this is no sign of trouble.
  const noteEnd = (error: unknown) => log.debug("Connection failed", { error: SpireError.from(error) });
  for (const event of ["error", "sessionError", "tlsClientError"]) http2Server.on(event, noteEnd);

  function track(socket: Socket): void {
    if (connections.has(socket)) return;
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    // The HTTP/2 layer acts on errors; without a listener they would end the process.
    socket.on("error", noteEnd);
  }

  return {
    http2Server,
    track,
    identify(socket, caller) {
      Reflect.set(socket, callerKey, caller);
    },
    accept(socket) {
      track(socket);
      injector.injectConnection(socket);
    },
    async close(graceMs) {
      dispatcher.endCalls("streams");
      for (const session of sessions) session.close();
      if (graceMs > 0) await Promise.race([allClosed(sessions), sleep(clock, graceMs)]);
      dispatcher.endCalls("all");
      if (graceMs > 0) await Promise.race([allClosed(sessions), sleep(clock, lastWordsMs)]);
      for (const session of sessions) session.destroy();
      for (const socket of connections) socket.destroy();
      server.forceShutdown();
    },
  };
}

/** Takes the calls that are on their way, and no more after the client has heard it (RFC 9113, 6.8). */
function askToGo(session: Http2Session): void {
  session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1);
  session.close();
}

async function allClosed(sessions: ReadonlySet<Http2Session>): Promise<void> {
  await Promise.all([...sessions].map((session) => new Promise((resolve) => session.once("close", resolve))));
}

function serverOptions(options: RpcOptions): ServerOptions {
  const { maxMessageBytes = defaultMaxMessageBytes, maxStreams = defaultMaxStreams } = options;
  const { maxConnectionAgeMs, keepaliveMs } = options;
  return {
    "grpc.enable_channelz": 0,
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_concurrent_streams": maxStreams,
    ...(keepaliveMs !== undefined && { "grpc.keepalive_time_ms": keepaliveMs }),
    ...(maxConnectionAgeMs !== undefined && { "grpc.max_connection_age_ms": maxConnectionAgeMs }),
  };
}

/**
 * A stream that a client reads once and then cancels ends with a reset; one that does so for each of its calls is
 * no attack. The runtime's own allowance (33 a second) would cut it off; a flood that no honest client reaches
 * still ends its connection.
 */
function allowResets(server: Server): void {
  const http2Options: unknown = Reflect.get(server, "commonServerOptions");
  if (typeof http2Options !== "object" || http2Options === null) {
    throw new SpireError("INTERNAL", "the HTTP/2 options are not where this version of grpc-js keeps them");
  }
  Object.assign(http2Options, { streamResetBurst: resetsPerSecond, streamResetRate: resetsPerSecond });
}

/** grpc-js keeps the HTTP/2 server of an injector to itself; its events are needed here. */
function http2ServerOf(server: Server): Http2Server {
  const servers: unknown = Reflect.get(server, "http2Servers");
  const [http2Server] = servers instanceof Map ? servers.keys() : [];
  if (typeof http2Server?.on !== "function") {
    throw new SpireError("INTERNAL", "the HTTP/2 server is not where this version of grpc-js keeps it");
  }
  return http2Server;
}
