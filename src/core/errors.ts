/** The one error class of the project: what failed, on which thing, under a gRPC status code. */

/** gRPC status names with their numbers (https://grpc.io/docs/guides/status-codes/). */
export const statusCodes = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

export type StatusName = Exclude<keyof typeof statusCodes, "OK">;

/** One `google.protobuf.Any` of a status: a type URL and the encoded message. */
export interface ErrorDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

export interface SpireErrorOptions {
  readonly cause?: unknown;
  readonly details?: readonly ErrorDetail[];
}

/**
 * An error with a code that a caller can act on. The message is meant for users: it names what failed and
 * never holds key material or tokens. `cause` is for the log only.
 */
export class SpireError extends Error {
  override readonly name: string = "SpireError";
  readonly code: StatusName;
  readonly details: readonly ErrorDetail[];

  constructor(code: StatusName, message: string, options: SpireErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? [];
  }

  /** Normalises whatever was caught: a SpireError stays itself, anything else becomes UNKNOWN around it. */
  static from(caught: unknown): SpireError {
    if (caught instanceof SpireError) return caught;
    const message = caught instanceof Error ? caught.message : String(caught);
    return new SpireError("UNKNOWN", message, { cause: caught });
  }

  /** The same error with `context: ` before its message; code and details stay. */
  within(context: string): SpireError {
    return new SpireError(this.code, `${context}: ${this.message}`, { cause: this, details: this.details });
  }
}

export const invalidArgument = (message: string, cause?: unknown): SpireError =>
  new SpireError("INVALID_ARGUMENT", message, { cause });

export const notFound = (message: string): SpireError => new SpireError("NOT_FOUND", message);

export const permissionDenied = (message: string, details: readonly ErrorDetail[] = []): SpireError =>
  new SpireError("PERMISSION_DENIED", message, { details });
