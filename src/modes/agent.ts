/** Composition root of the agent: joins key manager, node attestor, sync, caches and the Workload API. */
import { join } from "node:path";
import { createHealthApi } from "../agent/api/health.ts";
import { createWorkloadApi } from "../agent/api/workload-api.ts";
import type { AgentBootstrap } from "../agent/bootstrap.ts";
import { createWorkloadCache } from "../agent/cache.ts";
import { createServerConnection } from "../agent/connection.ts";
import { type AgentIdentity, createAgentIdentity } from "../agent/identity.ts";
import { createJwtCache } from "../agent/jwt-cache.ts";
import { type AgentLife, createAgentLife } from "../agent/life.ts";
import type { NodeProofs } from "../agent/proofs.ts";
import { createSvidSigner } from "../agent/sign-svids.ts";
import { createFileStateStore, createMemoryStateStore } from "../agent/state.ts";
import { createSync } from "../agent/sync.ts";
import { createWorkloadAttestation } from "../agent/workload.ts";
import type { AgentAttestorConfig } from "../config/agent.ts";
import type { HealthConfig } from "../config/health.ts";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { KeyType } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { type SpiffeId, serverId, type TrustDomain } from "../core/spiffe-id.ts";
import { createDiskKeyManager } from "../plugins/key-managers/disk.ts";
import type { LocalKeyManager } from "../plugins/key-managers/index.ts";
import { createMemoryKeyManager } from "../plugins/key-managers/memory.ts";
import { createUnixAttestor, type UnixAttestorOptions } from "../plugins/workload-attestors/unix.ts";
import { dialTls } from "../rpc/dial.ts";
import { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import { type Listener, listenUnix } from "../rpc/listen.ts";
import type { TlsIdentity } from "../rpc/tls.ts";
import { openNodeProofs } from "./agent-proofs.ts";

/** Validated settings of an agent. */
export interface AgentSettings {
  readonly trustDomain: TrustDomain;
  /** `host:port`. */
  readonly serverAddress: string;
  /** Where the Workload API listens. */
  readonly socketPath: string;
  /** Where agent-data.json is kept; undefined = nothing is kept. */
  readonly dataDir?: string;
  /** `directory` holds keys.json. */
  readonly keyManager: { readonly type: "memory" } | { readonly type: "disk"; readonly directory: string };
  readonly nodeAttestor: AgentAttestorConfig;
  /**
   * What `join_token` attests with when there is no SVID: a token, which counts once, or a source of new ones, by which the
   * agent also comes back after its SVID has expired or was taken from it.
   */
  readonly joinToken?: string | (() => Promise<string>);
  readonly bootstrap: AgentBootstrap;
  readonly syncIntervalMs: number;
  readonly unix: UnixAttestorOptions;
  readonly x509SvidCacheMaxSize: number;
  readonly jwtSvidCacheMaxSize: number;
  readonly workloadKeyType: KeyType;
  /** Claims besides sub, exp and aud that ValidateJWTSVID shows of tokens from other trust domains. */
  readonly allowedForeignJwtClaims: readonly string[];
  /** Where health is served over HTTP; undefined = it isn't. */
  readonly health?: HealthConfig;
  /** Reported to the server. */
  readonly version: string;
}

/** What an agent takes unless told otherwise. */
export const defaultAgentSettings = {
  keyManager: { type: "memory" },
  nodeAttestor: { type: "join_token" },
  syncIntervalMs: 5_000,
  unix: { discoverWorkloadPath: false, workloadSizeLimit: 0 },
  x509SvidCacheMaxSize: 1_000,
  jwtSvidCacheMaxSize: 1_000,
  workloadKeyType: "ec-p256",
  allowedForeignJwtClaims: [],
  version: "dev",
} as const satisfies Partial<AgentSettings>;

export interface RunningAgent {
  /** As of now: attesting with another token makes it another one. */
  readonly agentId: SpiffeId;
  readonly socketPath: string;
  /** Syncs at once; calls during a sync lead to one more. */
  nudge(): void;
  /** Ends all tasks and removes the socket. */
  close(): Promise<void>;
  /** Resolves when the agent has ended: with the error that forced it, or undefined after close(). */
  readonly stopped: Promise<SpireError | undefined>;
}

/**
 * Resolves once attested, first sync done and the socket open. The socket opens before that, so that workloads
 * which connect meanwhile wait for their identity instead of failing.
 *
 * @throws SpireError when the socket can't be had, or the server refuses the agent or stays away for a minute.
 */
export async function startAgent(
  settings: AgentSettings,
  deps: { readonly clock: Clock; readonly log: Logger },
): Promise<RunningAgent> {
  const parts = joinParts(settings, await openNodeProofs(settings, deps), deps);
  const health = await openHealth(settings, parts, deps);
  const listener = await openSocket(settings, parts, deps).catch(async (error: unknown) => {
    await health?.close();
    throw error;
  });
  const close = async () => {
    const stopped = parts.life.stop();
    await listener.close();
    await stopped;
    parts.connection.close();
    await health?.close();
  };
  try {
    await parts.life.start();
  } catch (error) {
    await close();
    throw error;
  }
  return runningAgent(settings, parts, close);
}

type Deps = Parameters<typeof startAgent>[1];
type Parts = ReturnType<typeof joinParts>;

function joinParts(settings: AgentSettings, proofs: NodeProofs, { clock, log }: Deps) {
  const { trustDomain } = settings;
  const dial = (identity: TlsIdentity | undefined) =>
    dialTls({
      address: settings.serverAddress,
      serverId: serverId(trustDomain),
      bundle: () => identityOfAgent.trusted(),
      ...(identity && { identity }),
      clock,
    });
  const connection = createServerConnection(clock, () => dial(identityOfAgent.tls()));
  const identityOfAgent: AgentIdentity = createAgentIdentity({
    trustDomain,
    clock,
    log: log.with({ subsystem_name: "attestor" }),
    keys: createKeyManager(settings.keyManager),
    state: settings.dataDir === undefined ? createMemoryStateStore() : createFileStateStore(settings.dataDir),
    proofs,
    bootstrap: settings.bootstrap,
    dial,
    onChange: connection.reset,
  });
  const managerLog = log.with({ subsystem_name: "manager" });
  const svids = () => connection.client(SVIDService);
  const cache = createWorkloadCache({
    clock,
    maxSvids: settings.x509SvidCacheMaxSize,
    onMissing: () => life.demand(),
  });
  const jwtCache = createJwtCache({
    client: svids,
    clock,
    log: managerLog,
    maxTokens: settings.jwtSvidCacheMaxSize,
  });
  const sync = createSync({
    connection,
    identity: identityOfAgent,
    cache,
    jwtCache,
    signer: createSvidSigner({ client: svids, keyType: settings.workloadKeyType, log: managerLog }),
    log: managerLog,
    version: settings.version,
  });
  const life: AgentLife = createAgentLife({
    identity: identityOfAgent,
    sync: sync.run,
    hasSvids: () => cache.svidCount() > 0,
    syncIntervalMs: settings.syncIntervalMs,
    clock,
    log: managerLog,
  });
  return { identity: identityOfAgent, connection, cache, jwtCache, life };
}

function createKeyManager(settings: AgentSettings["keyManager"]): LocalKeyManager {
  return settings.type === "memory"
    ? createMemoryKeyManager()
    : createDiskKeyManager({ path: join(settings.directory, "keys.json") });
}

/** SPIRE's check: ready once workloads can be served. Before that the agent is alive all the same. */
async function openHealth({ health }: AgentSettings, { cache }: Parts, { clock, log }: Deps) {
  if (!health) return undefined;
  const { listenHealth } = await import("../telemetry/health.ts");
  const check = async () => {
    if (cache.isReady()) return { live: true, ready: true };
    return { live: true, ready: false, details: { make_new_x509_err: "the first sync is not done yet" } };
  };
  return listenHealth({ ...health, checks: { agent: check }, clock, log });
}

/** Everybody may connect: what a caller gets depends on its process alone. */
const socketMode = 0o777;

function openSocket(settings: AgentSettings, parts: Parts, { clock, log }: Deps): Promise<Listener> {
  const { cache, jwtCache } = parts;
  const endpoints = log.with({ subsystem_name: "endpoints" });
  const attestors = [createUnixAttestor(settings.unix)];
  const workloadApi = createWorkloadApi({
    trustDomain: settings.trustDomain,
    clock,
    cache,
    jwtCache,
    attestation: createWorkloadAttestation(attestors, log.with({ subsystem_name: "workload_attestor" })),
    allowedForeignJwtClaims: settings.allowedForeignJwtClaims,
  });
  return listenUnix({
    path: settings.socketPath,
    mode: socketMode,
    services: [workloadApi, createHealthApi(cache.isReady)],
    log: endpoints,
    clock,
  });
}

function runningAgent(settings: AgentSettings, parts: Parts, close: () => Promise<void>): RunningAgent {
  const { identity, life } = parts;
  const stopped = Promise.withResolvers<SpireError | undefined>();
  let lastId = identity.id();
  let closing: Promise<void> | undefined;
  const closeOnce = (error?: SpireError): Promise<void> => {
    closing ??= close().finally(() => stopped.resolve(error));
    return closing;
  };
  void life.ended.then((error) => closeOnce(error));
  return {
    get agentId() {
      lastId = identity.id() ?? lastId;
      if (!lastId) throw new SpireError("INTERNAL", "agent runs without ever having had an SVID");
      return lastId;
    },
    socketPath: settings.socketPath,
    nudge: life.nudge,
    close: () => closeOnce(),
    stopped: stopped.promise,
  };
}
