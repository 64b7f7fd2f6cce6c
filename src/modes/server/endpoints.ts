/** Where a server listens: its API by TCP and by Unix socket, and the bundle endpoint. */
import { parseIpRanges } from "../../core/ip-address.ts";
import { createAccess, refuseAtOnce } from "../../rpc/access.ts";
import { createCallMetrics } from "../../rpc/call-metrics.ts";
import { type Listener, listenTls, listenUnix } from "../../rpc/listen.ts";
import { auditBoth, createAudit } from "../../server/audit/audit.ts";
import { createCallLog, observeDenials } from "../../server/audit/call-log.ts";
import { createAccessLookups, createServerTls } from "../../server/callers.ts";
import type { BundleEndpoint } from "../../server/federation/bundle-endpoint.ts";
import type { ServerContext } from "./context.ts";
import { logListener } from "./lifecycle-log.ts";
import type { ServerServices } from "./services.ts";
import type { ServerState } from "./state.ts";

/** What calls may take to end when the server closes. */
const closeGraceMs = 9_000;

export interface ApiListeners {
  readonly local: Listener;
  readonly remote: Listener;
  /** Says in the log that they serve: whoever waits for the lines may go on then. */
  announce(): void;
}

/** @throws SpireError FAILED_PRECONDITION for a socket in use; UNAVAILABLE when an address can't be listened at. */
export async function listenApi(
  context: ServerContext,
  state: ServerState,
  services: ServerServices,
): Promise<ApiListeners> {
  const { settings, clock, log, logOf, cleanup } = context;
  const hooks = { ...createHooks(context, state), log: logOf("endpoints") };
  const listeners: Listener[] = [];
  cleanup.add(async () => {
    await Promise.all(listeners.map((listener) => listener.close(closeGraceMs)));
  });
  const local = await listenUnix({
    services: [...services.remote, ...services.local],
    ...hooks,
    path: settings.socketPath,
    mode: settings.dev ? 0o600 : 0o770,
    directoryMode: 0o750,
  });
  listeners.push(local);
  const { adminIds, requirePqKem, proxyProtocolTrustedCidrs: cidrs } = settings;
  const { registry, identity } = state;
  const remote = await listenTls({
    services: services.remote,
    ...hooks,
    host: settings.bindAddress,
    port: settings.bindPort,
    tls: createServerTls({ registry, identity, adminIds, requirePqKem, clock }),
    ...(cidrs.length > 0 ? { trustedProxies: parseIpRanges(cidrs) } : {}),
  });
  listeners.push(remote);
  if (cidrs.length > 0) hooks.log.info("PROXY protocol enabled on TCP listener", { trusted_cidrs: cidrs });
  return {
    local,
    remote,
    announce: () =>
      void listeners.splice(0, 2, logListener(remote, "tcp", log), logListener(local, "unix", log)),
  };
}

/** What happens before and after each call: who may, what is counted, what is logged. */
function createHooks({ settings, clock, metrics }: ServerContext, { registry, records }: ServerState) {
  const { adminIds, rateLimit, auditLog } = settings;
  const callLog = createCallLog({ registry, hasBundle: (name) => registry.bundles.has(name) });
  return {
    refuse: refuseAtOnce,
    before: createAccess({
      lookups: createAccessLookups({ registry, adminIds, clock, onAgentCall: records.activity.called }),
      clock,
      rateLimit,
      metrics,
    }),
    observe: observeDenials({ registry }, createCallMetrics(metrics)),
    audit: auditLog ? auditBoth(callLog, createAudit({ registry })) : callLog,
  };
}

/** Undefined when none is asked for. @throws SpireError when its certificate or its address can't be used. */
export async function listenForBundles(
  { settings, clock, logOf, cleanup }: ServerContext,
  { identity, ownBundle }: ServerState,
): Promise<BundleEndpoint | undefined> {
  const { federation, dataDir, requirePqKem } = settings;
  if (!federation?.bundleEndpoint) return undefined;
  const { openBundleEndpoint } = await import("./bundle-endpoint.ts");
  const endpoint = await openBundleEndpoint({
    endpoint: federation.bundleEndpoint,
    dataDir,
    ...(federation.webRoots ? { webRoots: federation.webRoots } : {}),
    identity,
    bundle: ownBundle,
    requirePqKem,
    clock,
    log: logOf("endpoints"),
  });
  cleanup.add(() => endpoint.close());
  return endpoint;
}
