/** Who may call which method of the server, and how often. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { permissionDenied, SpireError } from "../core/errors.ts";
import type { LogFields } from "../core/log.ts";
import { type Metrics, measured, nullMetrics } from "../core/metrics.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import { callWords } from "./call-names.ts";
import type { BeforeCall } from "./calls.ts";
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason } from "./gen/spire/api/types/status.ts";
import { createRateLimits, type RateLimitSettings } from "./rate-limit.ts";
import { type CallerKind, type LimitName, type MethodRule, methodRules } from "./server-methods.ts";
import type { Call, Caller, PeerSvid } from "./service.ts";

export interface AccessLookups {
  /** Whether `admin_ids` of the configuration holds the ID. */
  configuredAdmin(id: SpiffeId): boolean;
  /** Whether an entry with this SPIFFE ID has `admin`. */
  admin(id: SpiffeId): boolean;
  /** Whether an entry with this SPIFFE ID has `downstream`. */
  downstream(id: SpiffeId): boolean;
  /** Resolves for an agent in good standing. @throws SpireError `agentRefused(reason)` for any other caller. */
  agent(svid: PeerSvid): Promise<void>;
}

export interface AccessOptions {
  readonly lookups: AccessLookups;
  readonly clock: Clock;
  readonly rateLimit: RateLimitSettings;
  /** Undefined = nothing is measured. */
  readonly metrics?: Metrics;
}

/** Why a caller is no agent in good standing. */
export type AgentRefusal = "AGENT_EXPIRED" | "AGENT_NOT_ATTESTED" | "AGENT_NOT_ACTIVE" | "AGENT_BANNED";

/** PERMISSION_DENIED with the reason in a `spire.api.types.PermissionDeniedDetails`. */
export function agentRefused(reason: AgentRefusal | "AGENT_MUST_REATTEST", message: string): SpireError {
  const details = { reason: PermissionDeniedDetails_Reason[reason] };
  return permissionDenied(message, [
    {
      typeUrl: "type.googleapis.com/spire.api.types.PermissionDeniedDetails",
      value: PermissionDeniedDetails.encode(details).finish(),
    },
  ]);
}

/**
 * The check that runs before each of the server's handlers: the caller against the method's rule, then the
 * method's rate limit. It resolves to SPIRE's log fields `authorized_as` and `authorized_via`.
 *
 * It throws PERMISSION_DENIED for a caller who may not (also for a method without a rule), whatever else
 * `lookups.agent` throws, and RESOURCE_EXHAUSTED for a batch beyond what the rate limit can ever let through.
 */
export function createAccess({
  lookups,
  clock,
  rateLimit,
  metrics = nullMetrics,
}: AccessOptions): BeforeCall {
  const limits = createRateLimits(rateLimit, clock);

  async function limited(
    rule: MethodRule,
    limit: LimitName,
    call: Call,
    request: unknown,
  ): Promise<LogFields> {
    const fields = await authorize(rule, call, lookups, unixSeconds(clock));
    const take = () => limits.take(limit, hostOf(call.caller), itemsOf(rule, request), call.signal);
    const waited = limits.applies(limit)
      ? await measured(metrics, ["rateLimit", ...callWords(call.method)], take)
      : await take();
    // A caller may have lost its rights while it stood in line.
    return waited ? authorize(rule, call, lookups, unixSeconds(clock)) : fields;
  }

  return (call, request) => {
    const rule = methodRules.get(call.method);
    if (!rule) throw denied(call.method);
    return rule.limit === undefined || call.caller.transport === "unix"
      ? authorize(rule, call, lookups, unixSeconds(clock))
      : limited(rule, rule.limit, call, request);
  };
}

/** Judges the caller of a call that is under way as `createAccess` did when it began; throws PERMISSION_DENIED. */
export type RecheckCall = (call: Call) => Promise<void>;

/** For streams, which may last longer than the right to them. */
export const createRecheck =
  ({ lookups, clock }: Pick<AccessOptions, "lookups" | "clock">): RecheckCall =>
  async (call) => {
    const rule = methodRules.get(call.method);
    if (!rule) throw denied(call.method);
    await authorize(rule, call, lookups, unixSeconds(clock));
  };

/**
 * PERMISSION_DENIED for a caller who may not call the method whoever it turns out to be: by its transport, or for
 * want of a certificate. Nobody's request has to be read or decoded for that.
 */
export function refuseAtOnce({ method, caller }: Pick<Call, "method" | "caller">): SpireError | undefined {
  const allowed = methodRules.get(method)?.allowed ?? [];
  if (allowed.includes("any")) return undefined;
  const mayPass = caller.transport === "unix" ? allowed.includes("local") : allowed.some(needsCertificate);
  return mayPass && (caller.transport === "unix" || caller.svid) ? undefined : denied(method);
}

const needsCertificate = (kind: CallerKind): boolean => kind !== "local" && kind !== "any";

/**
 * SPIRE's order is any, local, admin by configuration, admin by entries, downstream, agent. A certificate was
 * verified when its connection opened; `now` (unix seconds) tells whether it has ended since.
 */
function authorize(
  rule: MethodRule,
  call: Call,
  lookups: AccessLookups,
  now: number,
): LogFields | Promise<LogFields> {
  const { allowed } = rule;
  const { caller, method } = call;
  if (allowed.includes("any")) return { authorized_as: "nobody", authorized_via: "" };
  if (caller.transport === "unix") {
    if (allowed.includes("local")) return { authorized_as: "local", authorized_via: "transport" };
    throw denied(method);
  }
  const { svid } = caller;
  if (!svid) throw denied(method);
  const holds = now < svid.expiresAt;
  if (holds && allowed.includes("admin")) {
    if (lookups.configuredAdmin(svid.id)) return { authorized_as: "admin", authorized_via: "config" };
    if (lookups.admin(svid.id)) return { authorized_as: "admin", authorized_via: "entries" };
  }
  if (holds && allowed.includes("downstream") && lookups.downstream(svid.id)) {
    return { authorized_as: "downstream", authorized_via: "entries" };
  }
  if (allowed.includes("agent")) return authorizeAgent(svid, method, lookups);
  throw denied(method);
}

async function authorizeAgent(svid: PeerSvid, method: string, lookups: AccessLookups): Promise<LogFields> {
  try {
    await lookups.agent(svid);
  } catch (caught) {
    const error = SpireError.from(caught);
    throw error.code === "PERMISSION_DENIED" ? denied(method, error) : caught;
  }
  return { authorized_as: "agent", authorized_via: "datastore" };
}

const denial = "authorization denied for method ";

/** Whether a call failed with this because of who called it. */
export const isDenial = ({ message }: SpireError): boolean => message.startsWith(denial);

const denied = (method: string, cause?: SpireError): SpireError =>
  new SpireError("PERMISSION_DENIED", `${denial}${method}`, {
    cause,
    details: cause?.details ?? [],
  });

/** The IP address of a TCP caller. */
const hostOf = ({ address }: Caller): string => address.slice(0, address.lastIndexOf(":"));

/** How many tokens a call takes: one, or one an item of a batch. */
function itemsOf(rule: MethodRule, request: unknown): number {
  if (rule.items === undefined || typeof request !== "object" || request === null) return 1;
  const items: unknown = Reflect.get(request, rule.items);
  return Array.isArray(items) ? items.length : 1;
}
