/** The server's composition root: settings > key manager, store, registry, authority, listeners > a running server. */
import type { Clock } from "../core/clock.ts";
import type { FederationRelationship } from "../core/federation.ts";
import type { KeyType } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../core/trust-bundle.ts";
import type { CaSubjectParts } from "../core/x509/issue.ts";
import { createSqliteStore } from "../plugins/datastores/sqlite/store.ts";
import { createDiskKeyManager } from "../plugins/key-managers/disk.ts";
import type { KeyManager } from "../plugins/key-managers/index.ts";
import { createMemoryKeyManager } from "../plugins/key-managers/memory.ts";
import { createJoinTokenVerifier } from "../plugins/node-attestors/join-token.ts";
import { createAccess, refuseAtOnce } from "../rpc/access.ts";
import { listenTls, listenUnix } from "../rpc/listen.ts";
import { createAgentApi } from "../server/api/agent.ts";
import { createBundleApi } from "../server/api/bundle.ts";
import { createDebugApi } from "../server/api/debug.ts";
import { createEntryApi } from "../server/api/entry.ts";
import { createHealthApi } from "../server/api/health.ts";
import { createLocalAuthorityApi } from "../server/api/local-authority.ts";
import { createLoggerApi, type LogLevelControl } from "../server/api/logger.ts";
import { createSvidApi } from "../server/api/svid.ts";
import { createTrustDomainApi } from "../server/api/trust-domain.ts";
import { createAttestation } from "../server/attest.ts";
import { createAuthority } from "../server/authority.ts";
import { createAccessLookups, createServerTls } from "../server/callers.ts";
import { claimDataDir, refuseForeignData } from "../server/data-dir.ts";
import { startBundleRefresh } from "../server/federation/refresh.ts";
import { createRelationships } from "../server/federation/relationships.ts";
import { createForcedRotation } from "../server/forced-rotation.ts";
import { createServerIdentity } from "../server/identity.ts";
import { startBundlePruning } from "../server/pruning.ts";
import { createRegistry, type Registry } from "../server/registry.ts";
import { startRotation, warnOfLongTtls } from "../server/rotation.ts";
import { type Cleanup, createCleanup } from "./cleanup.ts";

/** What calls may take to end when the server closes. */
const closeGraceMs = 10_000;

/** Whether agents and workloads of `agents` are touched by a change. */
export type AgentsConcerned = "all" | ReadonlySet<SpiffeId>;

/** `federation` of SPIRE's configuration. */
export interface FederationSettings {
  /** Serves this trust domain's bundle by profile https_spiffe; undefined = not served. */
  readonly bundleEndpoint?: {
    /** IP address or host name to listen on. */
    readonly address: string;
    /** 0 = a free one. */
    readonly port: number;
    /** Seconds between two fetches that clients are told to keep; 5 minutes unless said. */
    readonly refreshHintSeconds?: number;
  };
  /** Each takes the place of one made at run time with the same trust domain. */
  readonly federatesWith: readonly FederationRelationship[];
  /** PEM certificates that vouch for https_web endpoints; undefined = those of system and runtime. */
  readonly webRoots?: readonly string[];
}

const defaultRefreshHintSeconds = 300;

export interface ServerSettings {
  readonly trustDomain: TrustDomain;
  /** IP address or host name to listen on. */
  readonly bindAddress: string;
  /** 0 = a free one. */
  readonly bindPort: number;
  /** Unix socket of the server API. */
  readonly socketPath: string;
  /** Made with 0700 when missing. */
  readonly dataDir: string;
  readonly keyManager: { readonly type: "memory" } | { readonly type: "disk"; readonly keysPath: string };
  /** `:memory:` is allowed. */
  readonly dataStore: { readonly type: "sqlite"; readonly path: string };
  /** What agents may attest by. */
  readonly nodeAttestors: readonly "join_token"[];
  /** Seconds. */
  readonly caTtlSeconds: number;
  readonly caKeyType: KeyType;
  readonly jwtKeyType: KeyType;
  /** Of CA certificates; undefined = C=US, O=SPIFFE. */
  readonly caSubject?: CaSubjectParts;
  /** Seconds. */
  readonly defaultX509SvidTtlSeconds: number;
  /** Seconds. */
  readonly defaultJwtSvidTtlSeconds: number;
  /** Seconds; undefined = `defaultX509SvidTtlSeconds`. */
  readonly agentTtlSeconds?: number;
  /** `iss` of JWT-SVIDs; undefined = none. */
  readonly jwtIssuer?: string;
  readonly disableJwtSvids: boolean;
  readonly adminIds: readonly SpiffeId[];
  readonly rateLimit: { readonly attestation: boolean; readonly signing: boolean };
  /** Undefined = no bundle endpoint, and no relationships but those that are made at run time. */
  readonly federation?: FederationSettings;
  /**
   * For `spire dev` alone: lifts the refusal of a development instance's state directory, and keeps the socket to its
   * user, as it may lie in a directory of that user's choice.
   */
  readonly dev: boolean;
  /** Names the agents of certain join tokens, see `createJoinTokenVerifier`; for `spire dev` alone. */
  readonly joinTokenName?: (token: string) => string | undefined;
  /** Of the program, for the log. */
  readonly version: string;
}

/** What holds unless settings say otherwise; the rest has no sensible default. */
export const defaultServerSettings = {
  bindAddress: "0.0.0.0",
  bindPort: 8081,
  socketPath: "/tmp/spire-server/private/api.sock",
  nodeAttestors: ["join_token"],
  caTtlSeconds: 86_400,
  caKeyType: "ec-p256",
  jwtKeyType: "ec-p256",
  defaultX509SvidTtlSeconds: 3_600,
  defaultJwtSvidTtlSeconds: 300,
  disableJwtSvids: false,
  adminIds: [],
  rateLimit: { attestation: true, signing: true },
  dev: false,
  version: "dev",
} as const satisfies Partial<ServerSettings>;

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

  const verifiers = settings.nodeAttestors.map(() => createJoinTokenVerifier(settings.joinTokenName));
  const attestation = createAttestation({ authority, registry, verifiers });
  const remoteServices = [
    createAgentApi({ registry, attestation }),
    createBundleApi({ registry }),
    createEntryApi({ registry }),
    createSvidApi({ registry, authority, disableJwtSvids: settings.disableJwtSvids }),
    createTrustDomainApi({ registry, relationships, bundleRefresh }),
    createLocalAuthorityApi({ authority, rotation: createForcedRotation(authority, log) }),
  ];
  const localServices = [
    createDebugApi({ registry, authority, identity, clock }),
    createHealthApi(),
    ...(logLevel ? [createLoggerApi(logLevel)] : []),
  ];
  const { adminIds, rateLimit } = settings;
  const before = createAccess({
    lookups: createAccessLookups({ registry, adminIds, clock }),
    clock,
    rateLimit,
  });

  const local = await listenUnix({
    services: [...remoteServices, ...localServices],
    log,
    refuse: refuseAtOnce,
    before,
    path: settings.socketPath,
    mode: settings.dev ? 0o600 : 0o770,
    directoryMode: 0o750,
  });
  cleanup.add(() => local.close(closeGraceMs));
  const remote = await listenTls({
    services: remoteServices,
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

function openKeyManager({ keyManager }: ServerSettings): KeyManager {
  return keyManager.type === "disk"
    ? createDiskKeyManager({ path: keyManager.keysPath })
    : createMemoryKeyManager();
}
