/** The words in which is said what an audit line tells of a method's calls. */
import { createHash } from "node:crypto";
import type { SpireError } from "../../core/errors.ts";
import type { LogFields } from "../../core/log.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { Selector } from "../../rpc/gen/spire/api/types/selector.ts";
import type { SPIFFEID } from "../../rpc/gen/spire/api/types/spiffeid.ts";
import type { Status } from "../../rpc/gen/spire/api/types/status.ts";
import type { ServiceDefinition } from "../../rpc/service.ts";
import type { Registry } from "../registry.ts";

export interface AuditContext {
  readonly registry: Pick<Registry, "trustDomain" | "index">;
  /** Of a caller with an SVID. */
  readonly callerId: SpiffeId | undefined;
  /** What the call failed with; undefined = it succeeded. */
  readonly error: SpireError | undefined;
}

/** One item of a batch. */
export interface AuditItem {
  readonly fields: LogFields;
  readonly status: Status | undefined;
}

/**
 * Fields are SPIRE's; one that is undefined is left out. None may hold a secret: of a token there is nothing, of a
 * CSR its hash.
 */
export interface AuditRow<Req, Res> {
  /** What was asked for, whatever came of it. */
  fields?(request: Req, context: AuditContext): LogFields;
  /** Besides, what a call that succeeded gave. */
  result?(answer: Res, request: Req, context: AuditContext): LogFields;
  /** A line each in place of one for the call, unless the call as a whole failed. */
  items?(request: Req, answer: Res): readonly AuditItem[];
}

type RequestOf<M> = M extends { requestDeserialize: (bytes: Buffer) => infer Req } ? Req : never;
type ResponseOf<M> = M extends { responseDeserialize: (bytes: Buffer) => infer Res } ? Res : never;

/** By full method. */
export type AuditRows = ReadonlyMap<string, AuditRow<unknown, unknown>>;

/** A method that is left out is audited only when it fails, as SPIRE has it for health and debug. */
export function auditRows<S>(
  definition: S,
  rows: { readonly [M in keyof S]?: AuditRow<RequestOf<S[M]>, ResponseOf<S[M]>> },
): AuditRows {
  const methods = definition as unknown as ServiceDefinition;
  const byPath = new Map<string, AuditRow<unknown, unknown>>();
  for (const [name, row] of Object.entries(rows)) {
    const method = methods[name];
    if (method) byPath.set(method.path, row as AuditRow<unknown, unknown>);
  }
  return byPath;
}

/** Hexadecimal; empty for no bytes. */
export const sha256 = (bytes: Uint8Array): string =>
  bytes.length === 0 ? "" : createHash("sha256").update(bytes).digest("hex");

/** Undefined when `read` throws: what the call is refused for says the error. */
export function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The ID as text, also one that may not be; empty for none. */
export const idText = (id: SPIFFEID | undefined): string =>
  id ? `spiffe://${id.trustDomain}${id.path}` : "";

export const selectorsText = (selectors: readonly Selector[]): string =>
  selectors.map(({ type, value }) => `${type}:${value}`).join(",");

/** Names of a generated enumeration's numbers. */
export const nameOf = (enumeration: Readonly<Record<string, number>>, value: number): string =>
  Object.entries(enumeration).find(([, number]) => number === value)?.[0] ?? String(value);

/** Results of a batch beside what they are of. */
export const itemsOf = <A, R extends { status: Status | undefined }>(
  asked: readonly A[],
  results: readonly R[],
  fields: (item: A, result: R) => LogFields,
): readonly AuditItem[] =>
  asked.flatMap((item, index) => {
    const result = results[index];
    return result ? [{ fields: fields(item, result), status: result.status }] : [];
  });
