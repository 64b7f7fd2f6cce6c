/** The waist of all RPC: how a service is described, what a handler gets, how its calls are typed. */
import type { LogFields, Logger } from "../core/log.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";

/** The process at the other end of a Unix socket, bound to its connection. */
export interface PeerProcess {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Whether the very process that connected still runs; a reused PID is not it. */
  isAlive(): boolean;
}

/** A client certificate that was verified when its connection opened. */
export interface PeerSvid {
  readonly id: SpiffeId;
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  /** Decimal. */
  readonly serialNumber: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

/** Who is calling. */
export interface Caller {
  readonly transport: "unix" | "tcp";
  /** `host:port` of a TCP peer; the socket's path for a Unix peer. */
  readonly address: string;
  /** Unix peers only. */
  readonly process?: PeerProcess;
  /** TCP peers that showed a certificate; otherwise the caller is anonymous. */
  readonly svid?: PeerSvid;
}

/** One call in progress. */
export interface Call {
  /** Full method, such as `/spire.api.server.agent.v1.Agent/AttestAgent`. */
  readonly method: string;
  readonly caller: Caller;
  /** Request metadata; all values of a key, in order; empty when absent. */
  metadata(key: string): readonly string[];
  /** Aborted when the client cancels or its connection ends. */
  readonly signal: AbortSignal;
  readonly log: Logger;
  /** Adds fields to the call's log lines from now on, those about its end among them. */
  note(fields: LogFields): void;
  /**
   * Calls back once when it is known whether the client has the whole answer; false for a call that failed or was
   * cancelled, and whenever it is in doubt.
   */
  onAnswered(listener: (delivered: boolean) => void): void;
}

type Coder<T> = { bivarianceHack(value: T): Buffer }["bivarianceHack"];

/** One method as generated from the .proto files. */
export interface MethodDefinition<Req, Res> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: Coder<Req>;
  readonly requestDeserialize: (bytes: Buffer) => Req;
  readonly responseSerialize: Coder<Res>;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

export type ServiceDefinition = Readonly<Record<string, MethodDefinition<never, unknown>>>;

type RequestOf<M> = M extends { requestDeserialize: (bytes: Buffer) => infer Req } ? Req : never;
type ResponseOf<M> = M extends { responseDeserialize: (bytes: Buffer) => infer Res } ? Res : never;

/**
 * A response that was encoded before, so that many streams can share it. Handlers may return it in place of
 * a message.
 */
export class EncodedMessage {
  readonly bytes: Buffer;
  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

type Answer<Res> = Res | EncodedMessage;

/** A handler throws SpireError to fail a call; for a stream, returning ends it with OK. */
type Handler<M> = M extends { requestStream: false; responseStream: false }
  ? (request: RequestOf<M>, call: Call) => Promise<Answer<ResponseOf<M>>>
  : M extends { requestStream: false; responseStream: true }
    ? (request: RequestOf<M>, call: Call) => AsyncIterable<Answer<ResponseOf<M>>>
    : M extends { requestStream: true; responseStream: true }
      ? (requests: AsyncIterable<RequestOf<M>>, call: Call) => AsyncIterable<Answer<ResponseOf<M>>>
      : never;

/** The handlers of a service; a method that is left out answers UNIMPLEMENTED. */
export type Handlers<S> = { readonly [M in keyof S]?: Handler<S[M]> };

/** A service with its handlers, made by `bindService`. */
export interface BoundService {
  readonly definition: ServiceDefinition;
  readonly handlers: Readonly<Record<string, unknown>>;
}

export function bindService<S>(definition: S, handlers: Handlers<S>): BoundService {
  return { definition: definition as ServiceDefinition, handlers: handlers as BoundService["handlers"] };
}

/** Options of one call by a client. */
export interface CallOptions {
  readonly signal?: AbortSignal;
  /** Milliseconds until DEADLINE_EXCEEDED. */
  readonly timeoutMs?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Both directions of a call whose requests and responses are streams. */
export interface Conversation<Req, Res> {
  send(request: Req): Promise<void>;
  /** Half-closes. */
  end(): void;
  /** Undefined once the server has ended the call. @throws SpireError with the call's status. */
  receive(): Promise<Res | undefined>;
  cancel(): void;
}

type ClientMethod<M> = M extends { requestStream: false; responseStream: false }
  ? (request: RequestOf<M>, options?: CallOptions) => Promise<ResponseOf<M>>
  : M extends { requestStream: false; responseStream: true }
    ? (request: RequestOf<M>, options?: CallOptions) => AsyncIterable<ResponseOf<M>>
    : M extends { requestStream: true; responseStream: true }
      ? (options?: CallOptions) => Conversation<RequestOf<M>, ResponseOf<M>>
      : never;

/** A client of a service; failures are SpireErrors with the server's code, message and details. */
export type Client<S> = { readonly [M in keyof S]: ClientMethod<S[M]> };
