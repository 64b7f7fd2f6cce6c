/** Fetches the bundles that an agent's workloads need: its own trust domain's and the federated ones. */
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import type { BundleService } from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import type { Client } from "../rpc/service.ts";
import { bundleFromMessage } from "./messages.ts";

export interface FetchedBundles {
  readonly own: TrustBundle;
  readonly federated: ReadonlyMap<TrustDomain, TrustBundle>;
}

const timeoutMs = 30_000;
const fetchedAtOnce = 10;

/**
 * A federated bundle that can't be fetched keeps its `known` value; one that the server no longer has is gone.
 *
 * @throws SpireError when the own bundle can't be fetched.
 */
export async function fetchBundles(options: {
  readonly client: Client<BundleService>;
  readonly federatesWith: ReadonlySet<TrustDomain>;
  readonly known: ReadonlyMap<TrustDomain, TrustBundle>;
  readonly signal: AbortSignal;
  readonly log: Logger;
}): Promise<FetchedBundles> {
  const { client, known, signal, log } = options;
  const own = bundleFromMessage(await client.getBundle({ outputMask: undefined }, { signal, timeoutMs }));
  const federated = new Map<TrustDomain, TrustBundle>();

  async function fetchOne(trustDomain: TrustDomain): Promise<void> {
    try {
      const request = { trustDomain, outputMask: undefined };
      const message = await client.getFederatedBundle(request, { signal, timeoutMs });
      federated.set(trustDomain, bundleFromMessage(message));
    } catch (error) {
      if (SpireError.from(error).code === "NOT_FOUND") return;
      log.error("Failed to fetch federated bundle", { federated_bundle: trustDomain, error });
      const kept = known.get(trustDomain);
      if (kept) federated.set(trustDomain, kept);
    }
  }

  const queue = [...options.federatesWith].values();
  const work = async () => {
    for (const trustDomain of queue) await fetchOne(trustDomain);
  };
  await Promise.all(Array.from({ length: fetchedAtOnce }, work));
  return { own, federated };
}
