/** Says of a call what it was about: one set of fields, or one for each item of a batch. */
import type { LogFields } from "../../core/log.ts";
import type { Exchange } from "../../rpc/calls.ts";
import { agentRows } from "./agent-rows.ts";
import { bundleRows, trustDomainRows } from "./bundle-rows.ts";
import {
  agentActivityRows,
  bundleHistoryRows,
  localAuthorityRows,
  loggerRows,
  rotationRows,
} from "./control-rows.ts";
import { entryRows } from "./entry-rows.ts";
import type { AuditContext, AuditItem, AuditRow, AuditRows } from "./rows.ts";
import { svidRows } from "./svid-rows.ts";

const rows: AuditRows = new Map(
  [
    agentRows,
    bundleRows,
    entryRows,
    svidRows,
    trustDomainRows,
    localAuthorityRows,
    loggerRows,
    rotationRows,
    bundleHistoryRows,
    agentActivityRows,
  ].flatMap((service) => [...service]),
);

export type CallDescription = { readonly fields: LogFields } | { readonly items: readonly AuditItem[] };

/** Whether a call of the method is worth a line when it succeeds. */
export const isDescribed = (method: string): boolean => rows.has(method);

/** @throws whatever a row doesn't expect: the caller is to see to it that the call doesn't suffer. */
export function describeCall(method: string, exchange: Exchange, context: AuditContext): CallDescription {
  const row: AuditRow<unknown, unknown> = rows.get(method) ?? {};
  const { request, answer, error } = exchange;
  // A stream may end before its first request.
  if (request === undefined) return { fields: {} };
  if (!error && row.items && answer !== undefined) return { items: row.items(request, answer) };
  const fields = row.fields?.(request, context);
  return error || answer === undefined
    ? { fields: { ...fields } }
    : { fields: { ...fields, ...row.result?.(answer, request, context) } };
}
