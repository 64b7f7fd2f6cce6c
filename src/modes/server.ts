/** The server's composition root: settings > key manager, store, registry, authority, listeners > a running server. */
import type { ServerConfig } from "../config/server-config.ts";
import type { Clock } from "../core/clock.ts";
import type { SpireError } from "../core/errors.ts";
import { parseIpRanges } from "../core/ip-address.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, nullMetrics } from "../core/metrics.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { finishReplacement } from "../plugins/datastores/sqlite/replacement.ts";
import { createSqliteStore } from "../plugins/datastores/sqlite/store.ts";
import { createAccess, refuseAtOnce } from "../rpc/access.ts";
import { createCallMetrics } from "../rpc/call-metrics.ts";
import { type Listener, listenTls, listenUnix } from "../rpc/listen.ts";
import type { LogLevelControl } from "../server/api/logger.ts";
import { createAttestation } from "../server/attest.ts";
import { auditBoth, createAudit } from "../server/audit/audit.ts";
import { createCallLog, observeDenials } from "../server/audit/call-log.ts";
import { createAuthority } from "../server/authority.ts";
import { createAccessLookups, createServerTls } from "../server/callers.ts";
import { claimDataDir, refuseForeignData } from "../server/data-dir.ts";
import { startBundleRefresh } from "../server/federation/refresh.ts";
import { createRelationships } from "../server/federation/relationships.ts";
import { createServerChecks, type HealthParts } from "../server/health.ts";
import { createServerIdentity } from "../server/identity.ts";
import { countSignatures, measureKeyManager } from "../server/measured-authority.ts";
import { measureStore } from "../server/measured-store.ts";
import { startNodePruning } from "../server/node-pruning.ts";
import { startBundlePruning, startJournalPruning } from "../server/pruning.ts";
import { createRegistry, type Registry } from "../server/registry.ts";
import { startRotation, warnOfLongTtls } from "../server/rotation.ts";
import { createUpstream } from "../server/upstream.ts";
import { startUpstreamFollowing } from "../server/upstream-following.ts";
import { startVitals } from "../server/vitals.ts";
import type { BackUp } from "./backup/child.ts";
import { type Cleanup, createCleanup } from "./cleanup.ts";
import type { Reconfigure } from "./reconfigure.ts";
import { loadLogged, logListener, logPlugins, logPluginsClosed, openLogged } from "./server/lifecycle-log.ts";
import { createCredentialComposers, createNodeVerifiers, openKeyManager } from "./server/plugins.ts";
import { openAgentRecords, openRotation } from "./server/rotation.ts";
import { createServices } from "./server/services.ts";
import type { ServerSettings } from "./server/settings.ts";
import { checkSurroundings } from "./server/surroundings.ts";
import { openUpstreamAuthority } from "./server/upstream.ts";

/** What calls may take to end when the server closes. */
const closeGraceMs = 9_000;

/** Whether agents and workloads of `agents` are touched by a change. */
export type AgentsConcerned = "all" | ReadonlySet<SpiffeId>;

export interface RunningServer {
  /** `host:port` of the TCP listener, with the port that was taken. */
  readonly address: string;
  readonly socketPath: string;
  readonly trustDomain: TrustDomain;
  /** `host:port` of the bundle endpoint, with the port that was taken; undefined when there is none. */
  readonly bundleEndpointAddress?: string;
  /** `host:port` where Prometheus finds metrics, with the port that was taken; undefined when it doesn't. */
  readonly prometheusAddress?: string;
  /** `host:port` of the health listener, with the port that was taken; undefined when there is none. */
  readonly healthAddress?: string;
  /** Takes up new options of one plugin. @throws SpireError; then the ones before stay in force. */
  readonly reconfigure: Reconfigure<ServerConfig>;
  /** For a caller in the same process, such as `spire dev`. */
  readonly registry: Registry;
  /** The trust domain's bundle as it stands. */
  bundle(): TrustBundle;
  /** Certificate of the X.509 authority that signs now, DER. */
  activeAuthority(): Uint8Array | undefined;
  /** Called after each change that concerns agents: entries, nodes and bundles. Returns its removal. */
  onChange(listener: (agents: AgentsConcerned) => void): () => void;
  /** Ends within 10 s; leaves no socket, timer or file handle behind. */
  close(): Promise<void>;
}

export interface ServerDependencies {
  readonly clock: Clock;
  readonly log: Logger;
  /** The level of `log`; without it the logger API isn't served. */
  readonly logLevel?: LogLevelControl;
  /** What counts and measures go to, in place of what the settings say. */
  readonly metrics?: Metrics;
  /** How scheduled backups are made; unless given, in this process. */
  readonly backUp?: BackUp;
}

/**
 * Resolves once all listeners answer.
 * @throws SpireError FAILED_PRECONDITION for a state directory or database that is not this server's, for
 *   damaged keys and for a socket in use; UNAVAILABLE when an address can't be listened at.
 */
export async function startServer(
  settings: ServerSettings,
  deps: ServerDependencies,
): Promise<RunningServer> {
  const cleanup = createCleanup(deps.log);
  try {
    return await compose(settings, deps, cleanup);
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

async function compose(
  settings: ServerSettings,
  { clock, log, logLevel, metrics: given, backUp }: ServerDependencies,
  cleanup: Cleanup,
): Promise<RunningServer> {
  const { trustDomain } = settings;
  const logOf = (subsystem: string) => log.with({ subsystem_name: subsystem });
  const telemetry =
    settings.telemetry &&
    (await import("./server/telemetry.ts")).openTelemetry(settings.telemetry, { trustDomain, clock, log });
  if (telemetry) cleanup.add(() => telemetry.close());
  const metrics = given ?? telemetry?.metrics ?? nullMetrics;
  // Keys may be among what a restore has still to put in place.
  await finishReplacement(settings.dataStore.path);
  await checkSurroundings(settings, log);
  const { verifiers, reconfigure } = await createNodeVerifiers(settings, { clock, log });
  let healthParts: HealthParts | undefined;
  const health =
    settings.health &&
    (await import("../telemetry/health.ts")).listenHealth({
      ...settings.health,
      checks: createServerChecks(() => healthParts),
      clock,
      log,
    });
  if (health) cleanup.add(() => health.close());
  const upstreamPlugin = await openUpstreamAuthority(settings, { clock, log });
  if (upstreamPlugin) cleanup.add(() => upstreamPlugin.plugin.close());
  claimDataDir(settings);
  if (settings.requirePqKem) {
    const effect = "all TLS connections will require use of a post-quantum safe KEM";
    log.debug(`Experimental option 'require_pq_kem' is enabled; ${effect}`);
  }
  warnOfLongTtls(settings, log);

  cleanup.add(async () => logPluginsClosed(settings, log));
  const { path } = settings.dataStore;
  const opened = await openLogged(path, log, () =>
    createSqliteStore({ path, clock, onDamage: onceLogged(logOf("sql")) }),
  );
  const store = measureStore(opened, metrics);
  cleanup.add(() => store.close());
  await refuseForeignData(store, trustDomain);
  logPlugins(settings, log);
  const registry = await loadLogged(log, () =>
    createRegistry({ store, trustDomain, clock, log: logOf("sql"), metrics }),
  );
  cleanup.add(() => registry.close());

  const caSubject = settings.caSubject ? { subject: settings.caSubject } : {};
  const upstream =
    upstreamPlugin &&
    createUpstream({
      ...upstreamPlugin,
      ...caSubject,
      trustDomain,
      registry,
      clock,
      log: logOf("ca_manager"),
    });
  const authorityOptions = {
    trustDomain,
    keyManager: measureKeyManager(openKeyManager(settings), metrics),
    registry,
    clock,
    log: logOf("ca_manager"),
    metrics,
    caKeyType: settings.caKeyType,
    jwtKeyType: settings.jwtKeyType,
    caTtlSeconds: settings.caTtlSeconds,
    x509SvidTtlSeconds: settings.defaultX509SvidTtlSeconds,
    jwtSvidTtlSeconds: settings.defaultJwtSvidTtlSeconds,
    agentTtlSeconds: settings.agentTtlSeconds ?? settings.defaultX509SvidTtlSeconds,
    ...(settings.caSubject ? { caSubject: settings.caSubject } : {}),
    ...(settings.jwtIssuer ? { jwtIssuer: settings.jwtIssuer } : {}),
    ...(upstream ? { upstream } : {}),
    composers: createCredentialComposers(settings),
    ...(settings.wit ? { wit: settings.wit } : {}),
  };
  const records = await openAgentRecords({ registry, clock, log });
  cleanup.add(() => records.close());
  const authority = records.recording(countSignatures(await createAuthority(authorityOptions), metrics));
  const identity = await createServerIdentity({
    authority,
    keyType: settings.caKeyType,
    clock,
    log: logOf("svid_rotator"),
    metrics,
  });
  cleanup.add(() => identity.stop());

  const rotation = await openRotation({ registry, records, authority, identity, clock, log, metrics });
  cleanup.add(() => rotation.close());

  const { federation } = settings;
  const relationships = createRelationships(registry);
  const bundleRefresh = startBundleRefresh({
    registry,
    relationships,
    configured: federation?.federatesWith ?? [],
    clock,
    log: logOf("bundle_client"),
    metrics,
    ...(federation?.webRoots ? { webRoots: federation.webRoots } : {}),
    requirePqKem: settings.requirePqKem,
  });
  cleanup.add(() => bundleRefresh.stop());

  const attestation = createAttestation({
    authority,
    registry,
    verifiers,
    agentIdAsSelector: settings.agentIdAsSelector,
    log,
  });
  const services = createServices({
    clock,
    log,
    metrics,
    ...(logLevel ? { logLevel } : {}),
    registry,
    authority,
    identity,
    attestation,
    relationships,
    bundleRefresh,
    records,
    rotation,
    disableJwtSvids: settings.disableJwtSvids,
    ...(upstream ? { upstream } : {}),
  });
  const { adminIds, rateLimit } = settings;
  const before = createAccess({
    lookups: createAccessLookups({ registry, adminIds, clock, onAgentCall: records.activity.called }),
    clock,
    rateLimit,
    metrics,
  });
  const callLog = createCallLog({ registry, hasBundle: (name) => registry.bundles.has(name) });
  const hooks = {
    refuse: refuseAtOnce,
    before,
    observe: observeDenials({ registry }, createCallMetrics(metrics)),
    audit: settings.auditLog ? auditBoth(callLog, createAudit({ registry })) : callLog,
  };

  const listeners: Listener[] = [];
  cleanup.add(async () => {
    await Promise.all(listeners.map((listener) => listener.close(closeGraceMs)));
  });
  const local = await listenUnix({
    services: [...services.remote, ...services.local],
    log: logOf("endpoints"),
    ...hooks,
    path: settings.socketPath,
    mode: settings.dev ? 0o600 : 0o770,
    directoryMode: 0o750,
  });
  listeners.push(local);
  const { proxyProtocolTrustedCidrs: cidrs } = settings;
  const remote = await listenTls({
    services: services.remote,
    log: logOf("endpoints"),
    ...hooks,
    host: settings.bindAddress,
    port: settings.bindPort,
    tls: createServerTls({ registry, identity, adminIds, requirePqKem: settings.requirePqKem, clock }),
    ...(cidrs.length > 0 ? { trustedProxies: parseIpRanges(cidrs) } : {}),
  });
  listeners.push(remote);
  if (cidrs.length > 0) {
    logOf("endpoints").info("PROXY protocol enabled on TCP listener", { trusted_cidrs: cidrs });
  }
  const ownBundle = () => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
  const endpoint =
    federation?.bundleEndpoint &&
    (await (
      await import("./server/bundle-endpoint.ts")
    ).openBundleEndpoint({
      endpoint: federation.bundleEndpoint,
      dataDir: settings.dataDir,
      ...(federation.webRoots ? { webRoots: federation.webRoots } : {}),
      identity,
      bundle: ownBundle,
      requirePqKem: settings.requirePqKem,
      clock,
      log: logOf("endpoints"),
    }));
  if (endpoint) cleanup.add(() => endpoint.close());
  const prometheusAddress = await telemetry?.listen({ identity, registry });
  if (settings.backup) {
    const { startBackups } = await import("./server/backups.ts");
    const backups = startBackups(
      { ...settings, backup: settings.backup },
      { clock, log, metrics, ...(backUp ? { backUp } : {}) },
    );
    cleanup.add(() => backups.stop());
  }
  const kept = { registry, authority, clock, log: logOf("ca_manager"), metrics };
  for (const task of [
    startRotation({ ...kept, isHeld: rotation.holds }),
    startBundlePruning(kept),
    startJournalPruning(kept),
    ...(upstreamPlugin ? [startUpstreamFollowing({ ...kept, plugin: upstreamPlugin.plugin })] : []),
    ...(settings.nodePruning
      ? [startNodePruning({ ...kept, log: logOf("node_manager"), ...settings.nodePruning })]
      : []),
    ...(metrics === nullMetrics ? [] : [startVitals({ ...kept, version: settings.version })]),
  ]) {
    cleanup.add(() => task.stop());
  }
  // Ends what waits for the upstream authority, which would hold up the tasks' end.
  if (upstreamPlugin) cleanup.add(() => upstreamPlugin.plugin.close());
  healthParts = { registry, authority, clock };
  cleanup.add(async () => {
    healthParts = undefined;
  });
  if (logLevel) log.info("Logger service configured", { launch_log_level: logLevel.level() });
  // Last, and TCP first: who waits for the line may go on then.
  listeners.splice(0, 2, logListener(remote, "tcp", log), logListener(local, "unix", log));

  return {
    address: remote.address,
    socketPath: local.address,
    ...(endpoint ? { bundleEndpointAddress: endpoint.address } : {}),
    ...(prometheusAddress === undefined ? {} : { prometheusAddress }),
    trustDomain,
    registry,
    bundle: ownBundle,
    ...(health ? { healthAddress: health.address } : {}),
    reconfigure,
    activeAuthority: () => authority.state("x509", "active")?.der,
    onChange: (listener) => registry.onChange(({ agents }) => listener(agents)),
    close: () => cleanup.run(),
  };
}

/** The calls that meet the damage fail and are logged, each by itself; this line says what to do. */
function onceLogged(log: Logger): (error: SpireError) => void {
  let isTold = false;
  return (error) => {
    if (!isTold) log.error("Datastore is damaged", { error });
    isTold = true;
  };
}
