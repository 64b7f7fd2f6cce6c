/** The server's composition root: settings > state, services, listeners, tasks > a running server. */
import type { ServerConfig } from "../config/server-config.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { type Metrics, nullMetrics } from "../core/metrics.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import { finishReplacement } from "../plugins/datastores/sqlite/replacement.ts";
import type { LogLevelControl } from "../server/api/logger.ts";
import { createAttestation } from "../server/attest.ts";
import { claimDataDir, refuseForeignFiles } from "../server/data-dir.ts";
import { startBundleRefresh } from "../server/federation/refresh.ts";
import { createRelationships } from "../server/federation/relationships.ts";
import { createServerChecks, type HealthParts } from "../server/health.ts";
import type { Registry } from "../server/registry.ts";
import { warnOfLongTtls } from "../server/rotation.ts";
import type { BackUp } from "./backup/child.ts";
import { type Cleanup, createCleanup } from "./cleanup.ts";
import type { Reconfigure } from "./reconfigure.ts";
import type { ServerContext } from "./server/context.ts";
import { listenApi, listenForBundles } from "./server/endpoints.ts";
import { logPluginsClosed } from "./server/lifecycle-log.ts";
import { createNodeVerifiers } from "./server/plugins.ts";
import { createServices } from "./server/services.ts";
import type { ServerSettings } from "./server/settings.ts";
import { openState } from "./server/state.ts";
import { checkSurroundings } from "./server/surroundings.ts";
import { startTasks } from "./server/tasks.ts";
import { openUpstreamAuthority } from "./server/upstream.ts";

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
  const context: ServerContext = { settings, clock, log, logOf, metrics, cleanup };

  // Nothing is written before all of this holds. Keys may be among what a restore has still to put in place.
  const { dataStore, keyManager } = settings;
  const keysPath = keyManager.type === "disk" ? keyManager.keysPath : undefined;
  const files = { databasePath: dataStore.path, keysPath };
  refuseForeignFiles(files);
  await finishReplacement(files);
  await checkSurroundings(settings, log);
  const { verifiers, reconfigure } = await createNodeVerifiers(settings, { clock, log });
  const health = await listenForHealth(context);
  const upstreamPlugin = await openUpstreamAuthority(settings, { clock, log });
  if (upstreamPlugin) cleanup.add(() => upstreamPlugin.plugin.close());
  claimDataDir(settings);
  if (settings.requirePqKem) {
    const effect = "all TLS connections will require use of a post-quantum safe KEM";
    log.debug(`Experimental option 'require_pq_kem' is enabled; ${effect}`);
  }
  warnOfLongTtls(settings, log);

  cleanup.add(async () => logPluginsClosed(settings, log));
  const state = await openState(context, upstreamPlugin);
  const { registry, authority, identity } = state;
  const { federation, requirePqKem } = settings;
  const relationships = createRelationships(registry);
  const bundleRefresh = startBundleRefresh({
    registry,
    relationships,
    configured: federation?.federatesWith ?? [],
    clock,
    log: logOf("bundle_client"),
    metrics,
    ...(federation?.webRoots ? { webRoots: federation.webRoots } : {}),
    requirePqKem,
  });
  cleanup.add(() => bundleRefresh.stop());
  const { agentIdAsSelector, disableJwtSvids } = settings;
  const attestation = createAttestation({ authority, registry, verifiers, agentIdAsSelector, log });
  const services = createServices({
    ...state,
    adminIds: settings.adminIds,
    clock,
    log,
    metrics,
    ...(logLevel ? { logLevel } : {}),
    attestation,
    relationships,
    bundleRefresh,
    disableJwtSvids,
  });
  const api = await listenApi(context, state, services);
  const endpoint = await listenForBundles(context, state);
  const prometheusAddress = await telemetry?.listen({ identity, registry });
  await startTasks(context, state, { upstreamPlugin, backUp });
  health?.begin({ registry, authority: state.unrecorded, clock });
  if (logLevel) log.info("Logger service configured", { launch_log_level: logLevel.level() });
  api.announce();

  return {
    address: api.remote.address,
    socketPath: api.local.address,
    ...(endpoint ? { bundleEndpointAddress: endpoint.address } : {}),
    ...(prometheusAddress === undefined ? {} : { prometheusAddress }),
    trustDomain,
    registry,
    bundle: state.ownBundle,
    ...(health ? { healthAddress: health.address } : {}),
    reconfigure,
    activeAuthority: () => authority.state("x509", "active")?.der,
    onChange: (listener) => registry.onChange(({ agents }) => listener(agents)),
    close: () => cleanup.run(),
  };
}

interface HealthEndpoint {
  readonly address: string;
  /** From now on, until the server ends, it is ready if these are. */
  begin(parts: HealthParts): void;
}

/** Answers from the start on, so that a slow start can be told from a dead server. Undefined when none is asked for. */
async function listenForHealth({
  settings,
  clock,
  log,
  cleanup,
}: ServerContext): Promise<HealthEndpoint | undefined> {
  if (!settings.health) return undefined;
  let parts: HealthParts | undefined;
  const checks = createServerChecks(() => parts);
  const { listenHealth } = await import("../telemetry/health.ts");
  const listener = await listenHealth({ ...settings.health, checks, clock, log });
  cleanup.add(() => listener.close());
  return {
    address: listener.address,
    begin(given) {
      parts = given;
      cleanup.add(async () => {
        parts = undefined;
      });
    },
  };
}
