/** The audit log: a line for each call that was let in, with who called, what for, and what came of it. */
import { readlinkSync } from "node:fs";
import { type SpireError, statusCodes } from "../../core/errors.ts";
import type { LogFields } from "../../core/log.ts";
import type { AuditCall, Exchange } from "../../rpc/calls.ts";
import type { PeerProcess } from "../../rpc/service.ts";
import { describeCall, isDescribed } from "./describe.ts";
import { type AuditContext, type AuditItem, readable } from "./rows.ts";

export type AuditOptions = Pick<AuditContext, "registry">;

/** Writes to the log of each call, at level info, with SPIRE's message and fields. */
export function createAudit({ registry }: AuditOptions): AuditCall {
  return (call) => {
    // Whoever called may be gone by the time it is answered.
    const caller = callerFields(call.caller.process);
    return (exchange) => {
      const { error } = exchange;
      if (!error && !isDescribed(call.method)) return;
      const context = { registry, callerId: call.caller.svid?.id, error };
      const log = call.log.with({ type: "audit", ...caller });
      try {
        for (const fields of linesOf(call.method, exchange, context)) log.info("API accessed", fields);
      } catch (caught) {
        // An audit that fails must neither fail the call nor leave it out.
        log.error("Call could not be described for the audit log", { error: caught });
        log.info("API accessed", statusFields(error));
      }
    };
  };
}

/** Both, in this order. */
export const auditBoth =
  (first: AuditCall, second: AuditCall): AuditCall =>
  (call) => {
    const ends = [first(call), second(call)];
    return (exchange) => {
      for (const end of ends) end(exchange);
    };
  };

function linesOf(method: string, exchange: Exchange, context: AuditContext): readonly LogFields[] {
  const description = describeCall(method, exchange, context);
  return "items" in description
    ? description.items.map(itemFields)
    : [{ ...description.fields, ...statusFields(context.error) }];
}

const success = { status: "success" };

const statusFields = (error: SpireError | undefined): LogFields =>
  error ? { status: "error", status_code: statusCodes[error.code], status_message: error.message } : success;

const itemFields = ({ fields, status }: AuditItem): LogFields =>
  status && status.code !== 0
    ? { ...fields, status: "error", status_code: status.code, status_message: status.message }
    : { ...fields, ...success };

/** The program's path is left out where this process may not see it, such as in another PID namespace. */
function callerFields(process: PeerProcess | undefined): LogFields {
  if (!process) return {};
  const { pid, uid, gid } = process;
  const path = readable(() => readlinkSync(`/proc/${pid}/exe`));
  return { caller_uid: uid, caller_gid: gid, caller_path: process.isAlive() ? path : undefined };
}
