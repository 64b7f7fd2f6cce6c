/** One call in progress on the server side: what its handler sees, and its end. */
import { randomUUID } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import { SpireError } from "../core/errors.ts";
import type { LogFields, Logger } from "../core/log.ts";
import type { ObserveCall, Transport } from "./calls.ts";
import type { Call, Caller } from "./service.ts";

export interface RunningCallOptions {
  readonly log: Logger;
  readonly observe?: ObserveCall | undefined;
}

/** What few handlers ask for (signal, log) is made when asked for: most calls are short and want neither. */
export class RunningCall implements Call {
  readonly method: string;
  readonly caller: Caller;
  readonly transport: Transport;
  /** Whether the call has ended: answered, cancelled, or its connection gone. */
  over = false;
  #metadata: Metadata | undefined;
  #abort: AbortController | undefined;
  #log: Logger | undefined;
  #logFields: LogFields | undefined;
  #endListeners: (() => void)[] | undefined;
  #flushed: (() => void) | undefined;
  readonly #options: RunningCallOptions;
  readonly #observed: ReturnType<ObserveCall> | undefined;

  constructor(method: string, caller: Caller, transport: Transport, options: RunningCallOptions) {
    this.method = method;
    this.caller = caller;
    this.transport = transport;
    this.#options = options;
    this.#observed = options.observe?.(this);
  }

  metadataReceived(metadata: Metadata): void {
    this.#metadata = metadata;
  }

  metadata(key: string): readonly string[] {
    return this.#metadata?.get(key).map(String) ?? [];
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.over) this.#abort.abort();
    return this.#abort.signal;
  }

  get log(): Logger {
    this.#log ??= this.#options.log.with({ ...this.#fields(), ...this.#logFields });
    return this.#log;
  }

  #fields(): LogFields {
    const [, service, method] = this.method.split("/");
    const { transport, address, svid } = this.caller;
    return {
      service,
      method,
      request_id: randomUUID(),
      ...(transport === "tcp" && { caller_addr: address }),
      ...(svid && { caller_id: svid.id }),
    };
  }

  addLogFields(fields: LogFields): void {
    this.#logFields = fields;
    this.#log = undefined;
  }

  /** Calls back when the call is over. */
  onEnd(listener: () => void): void {
    if (this.over) {
      listener();
      return;
    }
    this.#endListeners ??= [];
    this.#endListeners.push(listener);
  }

  /** Sends a message of a stream; resolves when it has left this process, or when the call is over. */
  send(message: Buffer): Promise<void> {
    return new Promise((resolve) => {
      if (this.over) return resolve();
      this.#flushed = resolve;
      this.transport.sendMessage(message, resolve);
    });
  }

  /** The client or the connection ended it, or its deadline passed. */
  cancel(): void {
    this.finish(new SpireError("CANCELLED", "the call was cancelled"));
  }

  /** Ends the call; only the first end counts. */
  finish(outcome: SpireError | undefined): void {
    if (this.over) return;
    this.over = true;
    this.#observed?.(outcome);
    this.#abort?.abort();
    this.#flushed?.();
    for (const listener of this.#endListeners ?? []) listener();
  }
}
