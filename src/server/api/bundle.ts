/** spire.api.server.bundle.v1.Bundle: the trust domain's own bundle and those it federates with. */
import { invalidArgument, notFound, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { emptyBundle, mergeBundles, type TrustBundle } from "../../core/trust-bundle.ts";
import type { BundleDeleteMode } from "../../plugins/datastores/index.ts";
import {
  type AppendBundleRequest,
  type BatchSetFederatedBundleResponse_Result,
  BundleService,
} from "../../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import type { BundleMask, Bundle as BundleMessage } from "../../rpc/gen/spire/api/types/bundle.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { ActivityBook } from "../agent-activity.ts";
import type { Registry } from "../registry.ts";
import type { Upstream } from "../upstream.ts";
import {
  fromBundleMessage,
  fromKey,
  fromX509,
  mergeMasked,
  toBundleMessage,
  toKeyMessage,
} from "./convert-bundle.ts";
import { listing, toPageRequest } from "./convert-filter.ts";
import { trustDomainFrom, within } from "./convert-id.ts";
import { okStatus, toStatus } from "./convert-status.ts";

/** `BatchDeleteFederatedBundleRequest.Mode` by number. */
const deleteModes: readonly BundleDeleteMode[] = ["restrict", "delete", "dissociate"];

/** What a stored bundle becomes; `current` is undefined when there is none. */
type BundleChange = (given: TrustBundle, current: TrustBundle | undefined) => TrustBundle;

export interface BundleApiOptions {
  readonly registry: Registry;
  readonly activity: Pick<ActivityBook, "bundleSent">;
  /** Publishes keys of servers below this one further up. */
  readonly upstream?: Upstream;
}

export function createBundleApi({ registry, activity, upstream }: BundleApiOptions): BoundService {
  const { trustDomain } = registry;

  return bindService(BundleService, {
    async countBundles() {
      return { count: await registry.countBundles() };
    },

    async getBundle({ outputMask }, call) {
      const bundle = registry.bundles.get(trustDomain);
      if (!bundle) throw notFound("bundle not found");
      if (carriesAuthorities(outputMask)) activity.bundleSent(call, bundle.sequenceNumber);
      return toBundleMessage(bundle, outputMask);
    },

    async appendBundle(request) {
      const added = authoritiesToAppend(request);
      const reason = "authorities appended by an administrator";
      return toBundleMessage(await appendOwn(added, reason), request.outputMask);
    },

    async publishJwtAuthority({ jwtAuthority }) {
      if (!jwtAuthority) throw invalidArgument("missing JWT authority");
      const authority = within("invalid JWT authority", () => fromKey(jwtAuthority));
      await upstream?.publishJwtKey(authority).catch((error: unknown) => {
        const message = `failed to publish JWT key: ${SpireError.from(error).message}`;
        throw new SpireError("INTERNAL", message, { cause: error });
      });
      const added = { ...nothing, jwtAuthorities: [authority] };
      const bundle = await appendOwn(added, "JWT authority published by a downstream server");
      return { jwtAuthorities: bundle.jwtAuthorities.map(toKeyMessage) };
    },

    async publishWitAuthority() {
      throw new SpireError("UNIMPLEMENTED", "WIT-SVID functionality is not yet implemented");
    },

    async listFederatedBundles(request) {
      const page = await listing("failed to list bundles:", registry.listBundles(toPageRequest(request)));
      return {
        bundles: page.items
          .filter((bundle) => bundle.trustDomain !== trustDomain)
          .map((bundle) => toBundleMessage(bundle, request.outputMask)),
        nextPageToken: page.nextToken,
      };
    },

    async getFederatedBundle({ trustDomain: name, outputMask }) {
      const federated = foreignTrustDomain(
        name,
        "getting a federated bundle for the server's own trust domain",
      );
      const bundle = registry.bundles.get(federated);
      if (!bundle) throw notFound("bundle not found");
      return toBundleMessage(bundle, outputMask);
    },

    async batchCreateFederatedBundle({ bundle, outputMask }, { log }) {
      const create: BundleChange = (given, current) => {
        if (current) throw new SpireError("ALREADY_EXISTS", "bundle already exists");
        return given;
      };
      return { results: await changeEach(bundle, "creating", create, outputMask, log) };
    },

    async batchUpdateFederatedBundle({ bundle, inputMask, outputMask }, { log }) {
      const update: BundleChange = (given, current) => {
        if (!current) throw notFound("bundle not found");
        return mergeMasked(current, given, inputMask);
      };
      return { results: await changeEach(bundle, "updating", update, outputMask, log) };
    },

    async batchSetFederatedBundle({ bundle, outputMask }, { log }) {
      return { results: await changeEach(bundle, "setting", (given) => given, outputMask, log) };
    },

    async batchDeleteFederatedBundle({ trustDomains, mode: number }, { log }) {
      const mode = deleteModes[number];
      if (mode === undefined) {
        throw invalidArgument(`failed to parse deletion mode: unhandled delete mode "${number}"`);
      }
      const results = [];
      for (const name of trustDomains) {
        const status = await statusOf(() => deleteFederated(name, mode), log);
        results.push({ trustDomain: name, status });
      }
      return { results };
    },
  });

  /** @throws SpireError INVALID_ARGUMENT for a malformed name, and for the server's own trust domain. */
  function foreignTrustDomain(name: string, doing: string): TrustDomain {
    const parsed = trustDomainFrom(name);
    if (parsed === trustDomain) throw invalidArgument(`${doing} is not allowed`);
    return parsed;
  }

  function appendOwn(added: Authorities, reason: string): Promise<TrustBundle> {
    const append = (current: TrustBundle | undefined): TrustBundle => {
      const bundle = current ?? emptyBundle(trustDomain);
      const merged = mergeBundles(bundle, added);
      return merged === bundle ? bundle : { ...merged, sequenceNumber: bundle.sequenceNumber + 1 };
    };
    return registry.mutateBundle(trustDomain, append, reason);
  }

  async function changeEach(
    messages: readonly BundleMessage[],
    doing: string,
    change: BundleChange,
    outputMask: BundleMask | undefined,
    log: Logger,
  ): Promise<BatchSetFederatedBundleResponse_Result[]> {
    const results = [];
    for (const message of messages) {
      let bundle: BundleMessage | undefined;
      const status = await statusOf(async () => {
        const about = `${doing} a federated bundle for the server's own trust domain`;
        const federated = foreignTrustDomain(message.trustDomain, about);
        const given = fromBundleMessage(message, federated);
        const stored = await registry.mutateBundle(federated, (current) => change(given, current));
        bundle = toBundleMessage(stored, outputMask);
      }, log);
      results.push({ status, bundle });
    }
    return results;
  }

  async function deleteFederated(name: string, mode: BundleDeleteMode): Promise<void> {
    const federated = foreignTrustDomain(name, "removing the bundle for the server trust domain");
    if (!registry.bundles.has(federated)) throw notFound("bundle not found");
    try {
      await registry.deleteBundle(federated, mode);
    } catch (error) {
      throw SpireError.from(error).within("failed to delete federated bundle: datastore-sql");
    }
  }
}

async function statusOf(work: () => Promise<void>, log: Logger) {
  try {
    await work();
    return okStatus;
  } catch (error) {
    return toStatus(error, log);
  }
}

/** Who asks for the sequence number alone has no bundle for it. */
const carriesAuthorities = (mask: BundleMask | undefined): boolean =>
  mask === undefined || (mask.x509Authorities && mask.jwtAuthorities);

type Authorities = Pick<TrustBundle, "x509Authorities" | "jwtAuthorities" | "witAuthorities">;

const nothing: Authorities = { x509Authorities: [], jwtAuthorities: [], witAuthorities: [] };

function authoritiesToAppend(request: AppendBundleRequest): Authorities {
  const { x509Authorities, jwtAuthorities, witAuthorities } = request;
  if (x509Authorities.length + jwtAuthorities.length + witAuthorities.length === 0) {
    throw invalidArgument("no authorities to append");
  }
  return {
    jwtAuthorities: within("failed to convert JWT authority", () => jwtAuthorities.map(fromKey)),
    x509Authorities: within("failed to convert X.509 authority", () => fromX509(x509Authorities)),
    witAuthorities: within("failed to convert WIT authority", () => witAuthorities.map(fromKey)),
  };
}
