/** The server's composition root: settings > key manager, store, registry, authority, listeners > a running server. */
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import { createSqliteStore } from "../plugins/datastores/sqlite/store.ts";
import { createAccess, refuseAtOnce } from "../rpc/access.ts";
import { listenTls, listenUnix } from "../rpc/listen.ts";
import type { LogLevelControl } from "../server/api/logger.ts";
import { createAttestation } from "../server/attest.ts";
import { createAuthority } from "../server/authority.ts";
import { createAccessLookups, createServerTls } from "../server/callers.ts";
import { claimDataDir, refuseForeignData } from "../server/data-dir.ts";
import { startBundleRefresh } from "../server/federation/refresh.ts";
import { createRelationships } from "../server/federation/relationships.ts";
import { createServerIdentity } from "../server/identity.ts";
import { startBundlePruning } from "../server/pruning.ts";
import { createRegistry, type Registry } from "../server/registry.ts";
import { startRotation, warnOfLongTtls } from "../server/rotation.ts";
import { type Cleanup, createCleanup } from "./cleanup.ts";
import { createNodeVerifiers, openKeyManager } from "./server/plugins.ts";
import { createServices } from "./server/services.ts";
import type { ServerSettings } from "./server/settings.ts";

/** What calls may take to end when the server closes. */
const closeGraceMs = 10_000;

/** Whether agents and workloads of `agents` are touched by a change. */
export type AgentsConcerned = "all" | ReadonlySet<SpiffeId>;

const defaultRefreshHintSeconds = 300;

export interface RunningServer {
  /** `host:port` of the TCP listener, with the port that was taken. */
  readonly address: string;
  readonly socketPath: string;
  readonly trustDomain: TrustDomain;
  /** `host:port` of the bundle endpoint, with the port that was taken; undefined when there is none. */
  readonly bundleEndpointAddress?: string;
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
  { clock, log, logLevel }: ServerDependencies,
  cleanup: Cleanup,
): Promise<RunningServer> {
  const { trustDomain } = settings;
  claimDataDir(settings);
  warnOfLongTtls(settings, log);

  const store = await createSqliteStore({ path: settings.dataStore.path, clock });
  cleanup.add(() => store.close());
  await refuseForeignData(store, trustDomain);
  const registry = await createRegistry({ store, trustDomain, clock, log });
  cleanup.add(() => registry.close());

  const authority = await createAuthority({
    trustDomain,
    keyManager: openKeyManager(settings),
    registry,
    clock,
    log,
    caKeyType: settings.caKeyType,
    jwtKeyType: settings.jwtKeyType,
    caTtlSeconds: settings.caTtlSeconds,
    x509SvidTtlSeconds: settings.defaultX509SvidTtlSeconds,
    jwtSvidTtlSeconds: settings.defaultJwtSvidTtlSeconds,
    agentTtlSeconds: settings.agentTtlSeconds ?? settings.defaultX509SvidTtlSeconds,
    ...(settings.caSubject ? { caSubject: settings.caSubject } : {}),
    ...(settings.jwtIssuer ? { jwtIssuer: settings.jwtIssuer } : {}),
  });
  const identity = await createServerIdentity({ authority, keyType: settings.caKeyType, clock, log });
  cleanup.add(() => identity.stop());

  const { federation } = settings;
  const relationships = createRelationships(registry);
  const bundleRefresh = startBundleRefresh({
    registry,
    relationships,
    configured: federation?.federatesWith ?? [],
    clock,
    log,
    ...(federation?.webRoots ? { webRoots: federation.webRoots } : {}),
  });
  cleanup.add(() => bundleRefresh.stop());

  const attestation = createAttestation({ authority, registry, verifiers: createNodeVerifiers(settings) });
  const services = createServices({
    clock,
    log,
    ...(logLevel ? { logLevel } : {}),
    registry,
    authority,
    identity,
    attestation,
    relationships,
    bundleRefresh,
    disableJwtSvids: settings.disableJwtSvids,
  });
  const { adminIds, rateLimit } = settings;
  const before = createAccess({
    lookups: createAccessLookups({ registry, adminIds, clock }),
    clock,
    rateLimit,
  });

  const local = await listenUnix({
    services: [...services.remote, ...services.local],
    log,
    refuse: refuseAtOnce,
    before,
    path: settings.socketPath,
    mode: settings.dev ? 0o600 : 0o770,
    directoryMode: 0o750,
  });
  cleanup.add(() => local.close(closeGraceMs));
  const remote = await listenTls({
    services: services.remote,
    log,
    refuse: refuseAtOnce,
    before,
    host: settings.bindAddress,
    port: settings.bindPort,
    tls: createServerTls({ registry, identity, adminIds, clock }),
  });
  cleanup.add(() => remote.close(closeGraceMs));
  const ownBundle = () => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
  const endpoint =
    federation?.bundleEndpoint &&
    (await (
      await import("../server/federation/bundle-endpoint.ts")
    ).listenBundleEndpoint({
      host: federation.bundleEndpoint.address,
      port: federation.bundleEndpoint.port,
      refreshHintSeconds: federation.bundleEndpoint.refreshHintSeconds ?? defaultRefreshHintSeconds,
      identity,
      bundle: ownBundle,
      clock,
      log,
    }));
  if (endpoint) cleanup.add(() => endpoint.close());
  for (const task of [
    startRotation({ authority, clock, log }),
    startBundlePruning({ registry, clock, log }),
  ]) {
    cleanup.add(() => task.stop());
  }
  log.info("Starting Server APIs", {
    address: remote.address,
    socket: local.address,
    version: settings.version,
  });

  return {
    address: remote.address,
    socketPath: local.address,
    ...(endpoint ? { bundleEndpointAddress: endpoint.address } : {}),
    trustDomain,
    registry,
    bundle: ownBundle,
    activeAuthority: () => authority.state("x509", "active")?.der,
    onChange: (listener) => registry.onChange(({ agents }) => listener(agents)),
    close: () => cleanup.run(),
  };
}
