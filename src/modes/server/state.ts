/** What a server knows and signs with: registry, authorities, its own identity, and the rotation of all that. */
import type { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { emptyBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { createSqliteStore } from "../../plugins/datastores/sqlite/store.ts";
import { type Authority, createAuthority } from "../../server/authority.ts";
import { refuseForeignData } from "../../server/data-dir.ts";
import { createServerIdentity, type ServerIdentity } from "../../server/identity.ts";
import { countSignatures, measureKeyManager } from "../../server/measured-authority.ts";
import { measureStore } from "../../server/measured-store.ts";
import { createRegistry, type Registry } from "../../server/registry.ts";
import type { RotationRunner } from "../../server/rotation/runner.ts";
import { createUpstream, type Upstream } from "../../server/upstream.ts";
import type { ServerContext } from "./context.ts";
import { loadLogged, logPlugins, openLogged } from "./lifecycle-log.ts";
import { createCredentialComposers, openKeyManager } from "./plugins.ts";
import { type AgentRecords, openAgentRecords, openRotation } from "./rotation.ts";
import type { NamedUpstream } from "./upstream.ts";

export interface ServerState {
  readonly registry: Registry;
  readonly authority: Authority;
  /** The same without a note of what is signed, for SVIDs that nobody gets: a rotation doesn't wait for their end. */
  readonly unrecorded: Authority;
  readonly identity: ServerIdentity;
  readonly records: AgentRecords;
  readonly rotation: RotationRunner;
  /** Undefined: the server has no upstream authority. */
  readonly upstream?: Upstream;
  /** The trust domain's bundle as it stands. */
  ownBundle(): TrustBundle;
}

/**
 * Opens the database and brings the authorities into force.
 * @throws SpireError FAILED_PRECONDITION for a database that is not this server's, and for damaged keys.
 */
export async function openState(
  context: ServerContext,
  upstreamPlugin: NamedUpstream | undefined,
): Promise<ServerState> {
  const { settings, clock, log, logOf, metrics, cleanup } = context;
  const { trustDomain } = settings;
  const registry = await openRegistry(context);
  const upstream = upstreamPlugin && openUpstream(context, registry, upstreamPlugin);
  const records = await openAgentRecords({ registry, clock, log });
  cleanup.add(() => records.close());
  const unrecorded = await openAuthority(context, registry, upstream);
  const authority = records.recording(unrecorded);
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
  return {
    registry,
    authority,
    unrecorded,
    identity,
    records,
    rotation,
    ...(upstream ? { upstream } : {}),
    ownBundle: () => registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain),
  };
}

async function openRegistry({
  settings,
  clock,
  log,
  logOf,
  metrics,
  cleanup,
}: ServerContext): Promise<Registry> {
  const { trustDomain, dataStore } = settings;
  const { path } = dataStore;
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
  return registry;
}

/** The calls that meet the damage fail and are logged, each by itself; this line says what to do. */
function onceLogged(log: Logger): (error: SpireError) => void {
  let isTold = false;
  return (error) => {
    if (!isTold) log.error("Datastore is damaged", { error });
    isTold = true;
  };
}

function openUpstream(
  { settings, clock, logOf }: ServerContext,
  registry: Registry,
  plugin: NamedUpstream,
): Upstream {
  const { trustDomain, caSubject } = settings;
  return createUpstream({
    ...plugin,
    ...(caSubject ? { subject: caSubject } : {}),
    trustDomain,
    registry,
    clock,
    log: logOf("ca_manager"),
  });
}

async function openAuthority(
  { settings, clock, logOf, metrics }: ServerContext,
  registry: Registry,
  upstream: Upstream | undefined,
): Promise<Authority> {
  const authority = await createAuthority({
    trustDomain: settings.trustDomain,
    keyManager: measureKeyManager(openKeyManager(settings), metrics),
    registry,
    clock,
    log: logOf("ca_manager"),
    metrics,
    caKeyType: settings.caKeyType,
    jwtKeyType: settings.jwtKeyType,
    disableJwtSvids: settings.disableJwtSvids,
    caTtlSeconds: settings.caTtlSeconds,
    x509SvidTtlSeconds: settings.defaultX509SvidTtlSeconds,
    jwtSvidTtlSeconds: settings.defaultJwtSvidTtlSeconds,
    agentTtlSeconds: settings.agentTtlSeconds ?? settings.defaultX509SvidTtlSeconds,
    ...(settings.caSubject ? { caSubject: settings.caSubject } : {}),
    ...(settings.jwtIssuer ? { jwtIssuer: settings.jwtIssuer } : {}),
    ...(upstream ? { upstream } : {}),
    composers: createCredentialComposers(settings),
    ...(settings.wit ? { wit: settings.wit } : {}),
  });
  return countSignatures(authority, metrics);
}
