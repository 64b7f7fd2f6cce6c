/** What the log says of calls: each failure, also of a batch's items, and the successes that operators look for. */
import { type SpireError, statusCodes } from "../../core/errors.ts";
import type { LogFields, Logger } from "../../core/log.ts";
import { parseSpiffeId, type TrustDomain, trustDomainOf } from "../../core/spiffe-id.ts";
import { isDenial } from "../../rpc/access.ts";
import type { AuditCall, Exchange, ObserveCall } from "../../rpc/calls.ts";
import type { Call } from "../../rpc/service.ts";
import { describeCall } from "./describe.ts";
import { type AuditContext, readable } from "./rows.ts";

export interface CallLogOptions extends Pick<AuditContext, "registry"> {
  /** Whether there is a bundle of the trust domain. */
  readonly hasBundle: (trustDomain: TrustDomain) => boolean;
}

/** A line for a call, or an item of a batch, that succeeded; the words are SPIRE's. */
interface Success {
  readonly level: "info" | "debug";
  readonly message: string;
  /** Without it there is nothing to say. */
  readonly needs?: string;
  readonly fields?: (fields: LogFields, call: Call) => LogFields;
}

const onlyOf =
  (...names: readonly string[]) =>
  (fields: LogFields): LogFields =>
    Object.fromEntries(
      names.filter((name) => fields[name] !== undefined).map((name) => [name, fields[name]]),
    );

const agent = "/spire.api.server.agent.v1.Agent";
const bundle = "/spire.api.server.bundle.v1.Bundle";
const trustDomain = "/spire.api.server.trustdomain.v1.TrustDomain";
const about = { fields: onlyOf("spiffe_id") };
const aboutTrustDomain = { fields: onlyOf("trust_domain_id") };

const successes: ReadonlyMap<string, Success> = new Map<string, Success>([
  [
    `${agent}/AttestAgent`,
    {
      level: "info",
      message: "Agent attestation request completed",
      fields: ({ agent_id, node_attestor_type }, { caller }) => ({
        agent_id,
        node_attestor_type,
        address: caller.address,
      }),
    },
  ],
  [`${agent}/BanAgent`, { level: "info", message: "Agent banned", ...about }],
  [`${agent}/DeleteAgent`, { level: "info", message: "Agent deleted", ...about }],
  [`${agent}/RenewAgent`, { level: "info", message: "Renewing agent SVID" }],
  [
    `${agent}/PostStatus`,
    {
      level: "debug",
      message: "Agent status updated",
      needs: "agent_version",
      fields: onlyOf("spiffe_id", "agent_version"),
    },
  ],
  [
    `${bundle}/BatchCreateFederatedBundle`,
    { level: "debug", message: "Federated bundle created", ...aboutTrustDomain },
  ],
  [
    `${bundle}/BatchUpdateFederatedBundle`,
    { level: "debug", message: "Federated bundle updated", ...aboutTrustDomain },
  ],
  [
    `${bundle}/BatchSetFederatedBundle`,
    { level: "info", message: "Bundle set successfully", ...aboutTrustDomain },
  ],
  [
    `${trustDomain}/BatchCreateFederationRelationship`,
    { level: "debug", message: "Federation relationship created", ...aboutTrustDomain },
  ],
  [
    `${trustDomain}/BatchUpdateFederationRelationship`,
    { level: "debug", message: "Federation relationship updated", ...aboutTrustDomain },
  ],
  [
    `${trustDomain}/BatchDeleteFederationRelationship`,
    { level: "debug", message: "Federation relationship deleted", ...aboutTrustDomain },
  ],
  [`${trustDomain}/RefreshBundle`, { level: "debug", message: "Bundle refreshed", ...aboutTrustDomain }],
  ["/spire.api.server.logger.v1.Logger/GetLogger", { level: "info", message: "GetLogger Called" }],
]);

/** Costs a call that succeeds, and has no line, next to nothing. */
export function createCallLog(options: CallLogOptions): AuditCall {
  return (call) => (exchange) => {
    const { error } = exchange;
    if (!error && !successes.has(call.method) && !someItemFailed(exchange.answer)) return;
    // Nobody waits for the answer, or the log has it whole.
    if (error?.code === "CANCELLED" || error?.message === "internal") return;
    try {
      writeLines(call, exchange, options);
    } catch (caught) {
      call.log.error("Call could not be described for the log", { error: caught });
    }
  };
}

function someItemFailed(answer: unknown): boolean {
  const results: unknown = typeof answer === "object" && answer !== null && Reflect.get(answer, "results");
  return Array.isArray(results) && results.some(({ status }) => status?.code > 0);
}

function writeLines(call: Call, exchange: Exchange, { registry, hasBundle }: CallLogOptions): void {
  const { error } = exchange;
  const context = { registry, callerId: call.caller.svid?.id, error };
  const description = describeCall(call.method, exchange, context);
  if (error) {
    logFailure(
      call.log,
      statusCodes[error.code],
      error.message,
      "fields" in description ? description.fields : {},
    );
    return;
  }
  const items = "items" in description ? description.items : [{ ...description, status: undefined }];
  for (const { fields, status } of items) {
    if (status && status.code !== 0) logFailure(call.log, status.code, status.message, fields);
    else logSuccess(call, fields, hasBundle);
  }
}

function logSuccess(call: Call, fields: LogFields, hasBundle: CallLogOptions["hasBundle"]): void {
  const success = successes.get(call.method);
  if (!success || (success.needs !== undefined && fields[success.needs] === undefined)) return;
  const endpointId = readable(() => parseSpiffeId(String(fields["endpoint_spiffe_id"])));
  if (endpointId && !hasBundle(trustDomainOf(endpointId))) {
    const concerned = onlyOf("trust_domain_id", "endpoint_spiffe_id")(fields);
    call.log.warn("bundle not found for the endpoint SPIFFE ID trust domain", concerned);
  }
  call.log[success.level](success.message, success.fields?.(fields, call));
}

/** What a line about a failure names besides the failure. */
const identifying = onlyOf(
  "spiffe_id",
  "agent_id",
  "entry_id",
  "trust_domain_id",
  "node_attestor_type",
  "local_authority_id",
  "subject_key_id",
);

/** Names of SPIRE's modes of deletion, by number. */
const deleteModes = ["RESTRICT", "DELETE", "DISSOCIATE"];

/** The message up to its first colon is SPIRE's text, what follows the error; of some it is all text. */
function logFailure(log: Logger, code: number, message: string, fields: LogFields): void {
  const [, what = message, error] = unsplit.test(message) ? [] : (/^(.*?): (.*)$/s.exec(message) ?? []);
  const { mode } = fields;
  log.error(code === statusCodes.INVALID_ARGUMENT ? `Invalid argument: ${what}` : capitalized(what), {
    ...identifying(fields),
    ...(typeof mode === "number" && { delete_federated_bundle_mode: deleteModes[mode] }),
    ...(error !== undefined && code !== statusCodes.NOT_FOUND && { error }),
  });
}

const unsplit = /^(failed to attest: |nodeattestor\()/;

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** Logs each call of somebody who may not call it; `next` observes all. */
export const observeDenials =
  ({ registry }: Pick<CallLogOptions, "registry">, next: ObserveCall | undefined): ObserveCall =>
  (call) => {
    const end = next?.(call);
    return (outcome) => {
      end?.(outcome);
      if (outcome && isDenial(outcome)) logDenial(call, outcome, registry);
    };
  };

/** Two lines for a caller that is no agent in good standing: why, and then what it was refused. */
function logDenial(call: Call, error: SpireError, { index }: CallLogOptions["registry"]): void {
  const { svid } = call.caller;
  if (svid && error.cause instanceof Error) {
    const reason = capitalized(error.cause.message);
    const serials = { serial_num: index.node(svid.id)?.serialNumber, svid_serial_num: svid.serialNumber };
    call.log.error(reason, {
      authorized_as: "nobody",
      authorized_via: "",
      ...(reason.endsWith("is not active") && serials),
    });
  }
  call.log.error("Failed to authenticate caller", { error: error.message });
}
