/** Calls of the server side: from grpc-js to the handlers of a service and back, one message at a time. */
import type { ServerHttp2Stream } from "node:http2";
import {
  type Metadata,
  type Server,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { SpireError } from "../core/errors.ts";
import type { LogFields, Logger } from "../core/log.ts";
import { createDeliveryWatch } from "./delivery.ts";
import { createRequestQueue } from "./request-queue.ts";
import { RunningCall } from "./running-call.ts";
import {
  type BoundService,
  type Call,
  type Caller,
  EncodedMessage,
  type MethodDefinition,
} from "./service.ts";
import { statusOf } from "./status.ts";
import { routeUnknownMethods, unknownMethod } from "./unknown-method.ts";

/**
 * Runs before a call's handler, with the request where there is just one: returns fields for the call's log
 * lines, throws to refuse the call.
 */
export type BeforeCall = (call: Call, request: unknown) => Promise<LogFields> | LogFields;

/** Judges a call by its caller and headers alone, before anything of its request is read; an error refuses it. */
export type RefuseCall = (call: Call) => SpireError | undefined;

/** Runs when a call begins; what it returns runs once when the call is over, with the error it ended with. */
export type ObserveCall = (call: Call) => (outcome: SpireError | undefined) => void;

/** What was asked and answered, decoded; of a stream its first request and its last answer. */
export interface Exchange {
  readonly request: unknown;
  readonly answer: unknown;
  /** Undefined = the call succeeded. */
  readonly error: SpireError | undefined;
}

/** Runs when a call was let in; what it returns runs once when the call is over. */
export type AuditCall = (call: Call) => (exchange: Exchange) => void;

export interface DispatchOptions {
  readonly services: readonly BoundService[];
  readonly log: Logger;
  readonly refuse?: RefuseCall | undefined;
  readonly before?: BeforeCall | undefined;
  readonly observe?: ObserveCall | undefined;
  readonly audit?: AuditCall | undefined;
  /** Who is at the other end of an HTTP/2 session; undefined when it is over. */
  callerOf(session: object): Caller | undefined;
}

export interface Dispatcher {
  /** Ends the calls under way with UNAVAILABLE: just the streams, which may have no end of their own, or all. */
  endCalls(which: "streams" | "all"): void;
}

type Handle = (request: unknown, call: Call) => unknown;

interface Route {
  readonly method: MethodDefinition<never, unknown>;
  readonly handle: Handle;
}

/**
 * grpc-js would put each call behind a Readable and a Writable of its own, which read up to 16 messages ahead and
 * take most of the time of a small call. Its public interceptor interface is all that is needed instead: it gives
 * one message when asked for one, and tells when a message has left.
 */
export interface Transport extends ServerInterceptingCallInterface {
  /** The HTTP/2 stream of grpc-js's own implementation. */
  readonly stream?: ServerHttp2Stream;
}

/** A request that isn't the message it should be. */
class Undecodable {
  readonly reason: unknown;
  constructor(reason: unknown) {
    this.reason = reason;
  }
}

const passThrough = (bytes: Buffer): Buffer => bytes;
const done = { code: 0, details: "OK", metadata: null };

/** The interceptor for `new Server()`; `register` then names the methods to it. */
export function createDispatcher(options: DispatchOptions): Dispatcher & {
  readonly interceptor: ServerInterceptor;
  register(server: Server): void;
} {
  const routes = new Map<string, Route>();
  const streams = new Set<RunningCall>();
  const singles = new Set<RunningCall>();
  const callOptions = { ...options, watchDelivery: createDeliveryWatch() };

  function start(transport: Transport, path: string): void {
    const route = routes.get(path);
    const session = transport.stream?.session;
    const caller = session && options.callerOf(session);
    if (!route || !caller) {
      // Without a caller the connection is over or was refused, and nobody gets this answer.
      const error = caller
        ? unknownMethod(path, [...routes.keys()])
        : new SpireError("UNAVAILABLE", "the connection is closed");
      transport.sendStatus(statusOf(error));
      return;
    }
    const call = new RunningCall(path, caller, transport, callOptions);
    if (route.method.requestStream) {
      startConversation(route, call, transport);
      return;
    }
    const run = (request: unknown) =>
      route.method.responseStream ? runStream(route, call, request, request) : runUnary(route, call, request);
    const begin = () => {
      const refusal = options.refuse?.(call);
      if (refusal) fail(call, refusal);
      else transport.startRead();
    };
    transport.start(receiveOne(call, transport, begin, run));
  }

  async function runUnary(route: Route, call: RunningCall, request: unknown): Promise<void> {
    singles.add(call);
    try {
      await admit(call, request);
      // Whoever cancels while the call waits for its turn must not get the work done for nothing.
      if (call.over) return;
      call.answer = await route.handle(request, call);
      const answer = encode(route, call.answer);
      if (call.over) return;
      call.transport.sendMessage(answer, ignore);
      finish(call);
    } catch (caught) {
      fail(call, caught);
    } finally {
      singles.delete(call);
    }
  }

  async function runStream(
    route: Route,
    call: RunningCall,
    request: unknown,
    single?: unknown,
  ): Promise<void> {
    streams.add(call);
    try {
      await admit(call, single);
      if (call.over) return;
      await pump(route, call, route.handle(request, call) as AsyncIterable<unknown>);
      finish(call);
    } catch (caught) {
      fail(call, caught);
    } finally {
      streams.delete(call);
    }
  }

  /** Asks for a message only once the one before has left, so that a client that doesn't read costs one. */
  async function pump(route: Route, call: RunningCall, answers: AsyncIterable<unknown>): Promise<void> {
    const iterator = answers[Symbol.asyncIterator]();
    call.onEnd(() => closeIterator(iterator, call));
    for (;;) {
      const next = await iterator.next();
      if (next.done || call.over) return;
      call.answer = next.value;
      await call.send(encode(route, next.value));
    }
  }

  function startConversation(route: Route, call: RunningCall, transport: Transport): void {
    const requests = createRequestQueue(() => transport.startRead());
    call.onEnd(requests.cancel);
    transport.start({
      onReceiveMetadata(metadata: Metadata) {
        call.metadataReceived(metadata);
        const refusal = options.refuse?.(call);
        if (refusal) fail(call, refusal);
        else void runStream(route, call, requests.iterable);
      },
      onReceiveMessage(message: unknown) {
        if (message instanceof Undecodable) requests.fail(undecodable(message));
        else {
          call.request ??= message;
          requests.push(message);
        }
      },
      onReceiveHalfClose: requests.end,
      onCancel: () => call.cancel(),
    });
  }

  async function admit(call: RunningCall, request: unknown): Promise<void> {
    if (request instanceof Undecodable) throw undecodable(request);
    call.request ??= request;
    if (options.before) {
      const fields = options.before(call, request);
      call.note(fields instanceof Promise ? await fields : fields);
    }
    if (options.audit) call.audit(options.audit);
  }

  function finish(call: RunningCall): void {
    if (call.over) return;
    call.transport.sendStatus(done);
    call.finish(undefined);
  }

  function fail(call: RunningCall, caught: unknown): void {
    const error = caught instanceof SpireError ? caught : unforeseen(call, caught);
    if (call.over) return;
    call.transport.sendStatus(statusOf(error));
    call.finish(error);
  }

  return {
    interceptor: (method, transport) =>
      new ServerInterceptingCall(transport, { start: () => start(transport, method.path) }),
    register(server) {
      for (const service of options.services) addRoutes(service, routes, server);
      routeUnknownMethods(server);
    },
    endCalls(which) {
      const ending = which === "all" ? [...streams, ...singles] : streams;
      for (const call of ending) fail(call, new SpireError("UNAVAILABLE", "the server is shutting down"));
    },
  };
}

function addRoutes({ definition, handlers }: BoundService, routes: Map<string, Route>, server: Server): void {
  for (const [name, method] of Object.entries(definition)) {
    const handle = handlers[name];
    if (typeof handle === "function") routes.set(method.path, { method, handle: handle as Handle });
    const decode = (bytes: Buffer): unknown => {
      try {
        return method.requestDeserialize(bytes);
      } catch (error) {
        return new Undecodable(error);
      }
    };
    // The interceptor answers; grpc-js only needs to know the method.
    server.register(method.path, ignore, passThrough, decode, kindOf(method));
  }
}

const kindOf = ({ requestStream, responseStream }: MethodDefinition<never, unknown>): string =>
  requestStream ? (responseStream ? "bidi" : "clientStream") : responseStream ? "serverStream" : "unary";

function encode({ method }: Route, answer: unknown): Buffer {
  return answer instanceof EncodedMessage ? answer.bytes : method.responseSerialize(answer);
}

/** Receives exactly one request, once `begin` has asked for it, then runs. */
function receiveOne(
  call: RunningCall,
  transport: Transport,
  begin: () => void,
  run: (request: unknown) => void,
) {
  let request: unknown;
  let received = false;
  return {
    onReceiveMetadata(metadata: Metadata) {
      call.metadataReceived(metadata);
      begin();
    },
    onReceiveMessage(message: unknown) {
      if (call.over) return;
      if (received) return refuse("received a second request message for a call with a single one");
      received = true;
      request = message;
      transport.startRead();
    },
    onReceiveHalfClose() {
      if (call.over) return;
      if (!received) return refuse("received no request message");
      run(request);
    },
    onCancel: () => call.cancel(),
  };
  function refuse(message: string): void {
    const error = new SpireError("UNIMPLEMENTED", message);
    transport.sendStatus(statusOf(error));
    call.finish(error);
  }
}

/** Lets a handler's generator run its clean-up; it does so after the step it is in, which `signal` may end. */
function closeIterator(iterator: AsyncIterator<unknown>, call: RunningCall): void {
  iterator.return?.().catch((caught: unknown) => {
    if (!(caught instanceof SpireError)) unforeseen(call, caught);
  });
}

/** A failure that nobody foresaw is for the log; its text may hold anything. */
function unforeseen(call: RunningCall, caught: unknown): SpireError {
  const aborted = call.over && caught instanceof Error && caught.name === "AbortError";
  if (!aborted) call.log.error("Call failed for an unforeseen reason", { error: caught });
  return new SpireError("INTERNAL", "internal", { cause: caught });
}

function undecodable({ reason }: Undecodable): SpireError {
  const text = reason instanceof Error ? reason.message : String(reason);
  // The generated code's words for an int64 that no number holds; the message as such is in order.
  if (text.includes("_SAFE_INTEGER")) {
    return new SpireError("INVALID_ARGUMENT", "request has a number beyond 2^53 - 1", { cause: reason });
  }
  return new SpireError("INTERNAL", `request could not be decoded: ${text}`, { cause: reason });
}

function ignore(): void {}
