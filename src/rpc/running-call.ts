/** One call in progress on the server side: what its handler sees, and its end. */
import { randomUUID } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import { SpireError } from "../core/errors.ts";
import type { LogFields, Logger } from "../core/log.ts";
import { callNames } from "./call-names.ts";
import type { AuditCall, ObserveCall, Transport } from "./calls.ts";
import type { DeliveryWatch } from "./delivery.ts";
import type { Call, Caller } from "./service.ts";

export interface RunningCallOptions {
  readonly log: Logger;
  readonly observe?: ObserveCall | undefined;
  readonly watchDelivery: DeliveryWatch;
}

/** What few handlers ask for (signal, log) is made when asked for: most calls are short and want neither. */
export class RunningCall implements Call {
  readonly method: string;
  readonly caller: Caller;
  readonly transport: Transport;
  /** Whether the call has ended: answered, cancelled, or its connection gone. */
  over = false;
  /** The first one. */
  request: unknown;
  /** The last one. */
  answer: unknown;
  #metadata: Metadata | undefined;
  #abort: AbortController | undefined;
  #log: Logger | undefined;
  #logFields: LogFields | undefined;
  #requestId: string | undefined;
  #endListeners: (() => void)[] | undefined;
  #answerListeners: ((delivered: boolean) => void)[] | undefined;
  #flushed: (() => void) | undefined;
  readonly #options: RunningCallOptions;
  readonly #observed: ReturnType<ObserveCall> | undefined;
  #audited: ReturnType<AuditCall> | undefined;

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
    const { transport, address, svid } = this.caller;
    this.#requestId ??= randomUUID();
    return {
      ...callNames(this.method),
      subsystem_name: "api",
      request_id: this.#requestId,
      ...(transport === "tcp" && { caller_addr: address }),
      ...(svid && { caller_id: svid.id }),
    };
  }

  note(fields: LogFields): void {
    this.#logFields = this.#logFields ? { ...this.#logFields, ...fields } : fields;
    this.#log = undefined;
  }

  /** Has the call audited from now on. */
  audit(audit: AuditCall): void {
    if (!this.over) this.#audited = audit(this);
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

  onAnswered(listener: (delivered: boolean) => void): void {
    if (this.over) {
      listener(false);
      return;
    }
    this.#answerListeners ??= [];
    this.#answerListeners.push(listener);
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
    this.#audited?.({ request: this.request, answer: this.answer, error: outcome });
    // The HTTP/2 layer may keep the call for longer; a page of entries must not stay with it.
    this.request = undefined;
    this.answer = undefined;
    this.#abort?.abort();
    this.#flushed?.();
    for (const listener of this.#endListeners ?? []) listener();
    if (this.#answerListeners) this.#watchAnswer(this.#answerListeners, outcome);
  }

  #watchAnswer(listeners: readonly ((delivered: boolean) => void)[], outcome: SpireError | undefined): void {
    const tell = (delivered: boolean) => {
      for (const listener of listeners) listener(delivered);
    };
    const { stream } = this.transport;
    if (outcome || !stream) tell(false);
    else this.#options.watchDelivery(stream, tell);
  }
}
