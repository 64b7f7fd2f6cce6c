/** One round of an agent with its server: entries, bundles, then the SVIDs that are due. */
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import { AgentService } from "../rpc/gen/spire/api/server/agent/v1/agent.ts";
import { BundleService } from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { WorkloadCache } from "./cache.ts";
import type { ServerConnection } from "./connection.ts";
import { fetchBundles } from "./fetch-bundles.ts";
import { type EntryChanges, fetchEntryChanges } from "./fetch-entries.ts";
import type { AgentIdentity } from "./identity.ts";
import type { JwtCache } from "./jwt-cache.ts";
import type { SvidSigner } from "./sign-svids.ts";

export interface SyncDeps {
  readonly connection: ServerConnection;
  readonly identity: AgentIdentity;
  readonly cache: WorkloadCache;
  readonly jwtCache: JwtCache;
  readonly signer: SvidSigner;
  readonly log: Logger;
  /** Reported once, before the first sync. */
  readonly version: string;
}

export interface Sync {
  /** @throws SpireError; what was fetched before the failure is kept. */
  run(signal: AbortSignal): Promise<void>;
}

const timeoutMs = 30_000;

export function createSync(deps: SyncDeps): Sync {
  const { connection, identity, cache, jwtCache, signer, log } = deps;
  let reported = false;

  /** For the operator's eyes only, so a failure is no reason not to sync. */
  async function reportVersion(signal: AbortSignal): Promise<void> {
    if (reported) return;
    reported = true;
    try {
      const request = { agentVersion: deps.version, currentBundleSerial: 0 };
      await connection.client(AgentService).postStatus(request, { signal, timeoutMs });
    } catch (error) {
      log.warn("Failed to post agent status", { error });
    }
  }

  async function syncEntries(signal: AbortSignal): Promise<void> {
    const owner = identity.id();
    if (!owner) throw new SpireError("FAILED_PRECONDITION", "agent has no SVID");
    const client = connection.client(EntryService);
    const changes = await fetchEntryChanges({ client, owner, known: cache.entries(), signal, log });
    const bundles = await fetchBundles({
      client: connection.client(BundleService),
      federatesWith: federatedDomains(changes, cache),
      known: cache.federatedBundles(),
      signal,
      log,
    });
    logChanges(changes);
    await identity.learnBundle(bundles.own);
    jwtCache.applyBundle(bundles.own);
    cache.update(changes, bundles);
  }

  function logChanges({ put, deleted }: EntryChanges): void {
    for (const { id, spiffeId } of put) log.debug("Entry created", { entry: id, spiffe_id: spiffeId });
    for (const id of deleted) log.debug("Entry removed", { entry: id });
  }

  async function signDue(signal: AbortSignal): Promise<void> {
    const due = cache.due();
    if (due.length === 0) return;
    log.debug("Renewing stale entries", { count: due.length });
    await signer.sign(due, cache.putSvids, signal);
  }

  return {
    async run(signal) {
      const reporting = reportVersion(signal);
      await syncEntries(signal);
      await reporting;
      await signDue(signal);
    },
  };
}

/** The trust domains that any entry federates with after the changes. */
function federatedDomains({ put, deleted }: EntryChanges, cache: WorkloadCache): ReadonlySet<TrustDomain> {
  const gone = new Set([...deleted, ...put.map(({ id }) => id)]);
  const kept = [...cache.entries().values()].filter(({ id }) => !gone.has(id));
  return new Set([...kept, ...put].flatMap(({ federatesWith }) => federatesWith));
}
