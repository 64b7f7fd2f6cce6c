/** Clients of a service: promises and async iterables over grpc-js calls. */
import {
  type ClientDuplexStream,
  type ClientReadableStream,
  type CallOptions as GrpcCallOptions,
  type Client as GrpcClient,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { SpireError } from "../core/errors.ts";
import type { CallOptions, Client, Conversation, MethodDefinition } from "./service.ts";
import { errorOf } from "./status.ts";

/** Improves an error on its way to the caller, such as with the reason why a connection failed. */
export type Explain = (error: SpireError) => SpireError;

type Method = MethodDefinition<unknown, unknown>;

/** One function for each method of the service. */
export function createClient<S>(definition: S, grpc: GrpcClient, explain: Explain): Client<S> {
  const methods = Object.entries(definition as Record<string, Method>).map(([name, method]) => [
    name,
    functionOf(method, { grpc, explain }),
  ]);
  return Object.fromEntries(methods) as Client<S>;
}

interface Context {
  readonly grpc: GrpcClient;
  readonly explain: Explain;
}

function functionOf(method: Method, context: Context) {
  if (method.requestStream) return (options?: CallOptions) => converse(method, context, options);
  return method.responseStream
    ? (request: unknown, options?: CallOptions) => stream(method, context, request, options)
    : (request: unknown, options?: CallOptions) => unary(method, context, request, options);
}

function unary(method: Method, { grpc, explain }: Context, request: unknown, options: CallOptions = {}) {
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) return reject(cancelled());
    const call = grpc.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadataOf(options),
      callOptionsOf(options),
      (error, response) => {
        unlink();
        if (error) reject(toError(error, explain));
        else resolve(response);
      },
    );
    const unlink = cancelOnAbort(call, options.signal);
  });
}

async function* stream(
  method: Method,
  { grpc, explain }: Context,
  request: unknown,
  options: CallOptions = {},
) {
  if (options.signal?.aborted) throw cancelled();
  const call = grpc.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    metadataOf(options),
    callOptionsOf(options),
  );
  const unlink = cancelOnAbort(call, options.signal);
  try {
    yield* messagesOf(call, explain);
  } finally {
    unlink();
    call.cancel();
  }
}

function converse(
  method: Method,
  { grpc, explain }: Context,
  options: CallOptions = {},
): Conversation<unknown, unknown> {
  const call: ClientDuplexStream<unknown, unknown> = grpc.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    metadataOf(options),
    callOptionsOf(options),
  );
  const unlink = cancelOnAbort(call, options.signal);
  // grpc-js drops what is written to a call that ended before it was connected, without a word.
  const ended = new Promise<SpireError>((resolve) => {
    call.once("error", (error) => resolve(toError(error, explain)));
    call.once("close", () => resolve(cancelled()));
  });
  call.once("close", unlink);
  const messages = messagesOf(call, explain);
  return {
    send: (request) =>
      new Promise((resolve, reject) => {
        void ended.then(reject);
        call.write(request, (error: Error | null | undefined) => {
          if (!error) resolve();
        });
      }),
    end: () => call.end(),
    async receive() {
      const { done, value } = await messages.next();
      return done ? undefined : value;
    },
    cancel: () => call.cancel(),
  };
}

/**
 * The messages of a stream in order, then its end or its error. grpc-js reports an error at once, even with messages
 * before it unread; the stream's own end comes behind them, so the error waits for that.
 */
async function* messagesOf(call: ClientReadableStream<unknown>, explain: Explain) {
  const received: unknown[] = [];
  let failure: SpireError | undefined;
  let over = false;
  let wake = ignore;
  call.on("data", (message) => {
    received.push(message);
    // One at a time: a reader that doesn't come holds the server back.
    call.pause();
    wake();
  });
  // Stays for good: after an early end grpc-js still reports the cancellation.
  call.on("error", (error) => {
    failure ??= toError(error, explain);
  });
  const end = () => {
    over = true;
    wake();
  };
  call.on("end", end);
  call.on("close", end);
  for (;;) {
    if (received.length > 0) {
      yield received.shift();
      continue;
    }
    if (over && failure) throw failure;
    if (over) return;
    await new Promise<void>((resolve) => {
      wake = resolve;
      call.resume();
    });
  }
}

function toError(caught: unknown, explain: Explain): SpireError {
  return explain(isServiceError(caught) ? errorOf(caught) : SpireError.from(caught));
}

const isServiceError = (caught: unknown): caught is ServiceError =>
  caught instanceof Error && "code" in caught && typeof caught.code === "number" && "details" in caught;

function metadataOf({ metadata }: CallOptions): Metadata {
  const result = new Metadata();
  for (const [key, value] of Object.entries(metadata ?? {})) result.set(key, value);
  return result;
}

const callOptionsOf = ({ timeoutMs }: CallOptions): GrpcCallOptions =>
  timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };

function cancelOnAbort(call: { cancel(): void }, signal: AbortSignal | undefined): () => void {
  if (!signal) return ignore;
  const cancel = () => call.cancel();
  if (signal.aborted) cancel();
  signal.addEventListener("abort", cancel, { once: true });
  return () => signal.removeEventListener("abort", cancel);
}

const cancelled = (): SpireError => new SpireError("CANCELLED", "the call was cancelled");

function ignore(): void {}
