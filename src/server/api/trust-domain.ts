/** spire.api.server.trustdomain.v1.TrustDomain: the trust domains that this one federates with. */
import { invalidArgument, notFound, SpireError } from "../../core/errors.ts";
import type { FederationRelationship } from "../../core/federation.ts";
import { TrustDomainService } from "../../rpc/gen/spire/api/server/trustdomain/v1/trustdomain.ts";
import type { FederationRelationshipMask } from "../../rpc/gen/spire/api/types/federationrelationship.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { BundleRefresh } from "../federation/refresh.ts";
import type { Relationships } from "../federation/relationships.ts";
import type { Registry } from "../registry.ts";
import {
  federatedTrustDomain,
  fromRelationshipMessage,
  toRelationshipMessage,
  toRelationshipUpdate,
} from "./convert-federation.ts";
import { listing, toPageRequest } from "./convert-filter.ts";
import { okStatus, toStatus } from "./convert-status.ts";

export interface TrustDomainApiOptions {
  readonly registry: Registry;
  readonly relationships: Relationships;
  readonly bundleRefresh: Pick<BundleRefresh, "refresh">;
}

export function createTrustDomainApi(options: TrustDomainApiOptions): BoundService {
  const { registry, relationships, bundleRefresh } = options;
  const toMessage = (relationship: FederationRelationship, mask: FederationRelationshipMask | undefined) =>
    toRelationshipMessage(relationship, registry.bundles.get(relationship.trustDomain), mask);

  return bindService(TrustDomainService, {
    async listFederationRelationships(request) {
      const page = await listing(
        "failed to list federation relationships:",
        relationships.list(toPageRequest(request)),
      );
      return {
        federationRelationships: page.items.map((item) => toMessage(item, request.outputMask)),
        nextPageToken: page.nextToken,
      };
    },

    async getFederationRelationship({ trustDomain: name, outputMask }) {
      const relationship = await relationships.get(federatedTrustDomain(name));
      if (!relationship) throw notFound("federation relationship does not exist");
      return toMessage(relationship, outputMask);
    },

    async batchCreateFederationRelationship({ federationRelationships, outputMask }, { log }) {
      const results = [];
      for (const message of federationRelationships) {
        try {
          const { relationship, bundle } = fromRelationshipMessage(message);
          await stored("create", relationships.create(relationship, bundle));
          // As in SPIRE a bundle that was there before is not part of this answer.
          const made = toRelationshipMessage(relationship, bundle, outputMask);
          results.push({ status: okStatus, federationRelationship: made });
        } catch (error) {
          results.push({ status: toStatus(error, log), federationRelationship: undefined });
        }
      }
      return { results };
    },

    async batchUpdateFederationRelationship({ federationRelationships, inputMask, outputMask }, { log }) {
      const results = [];
      for (const message of federationRelationships) {
        try {
          const update = toRelationshipUpdate(fromRelationshipMessage(message), inputMask);
          const relationship = await stored("update", relationships.update(update));
          results.push({ status: okStatus, federationRelationship: toMessage(relationship, outputMask) });
        } catch (error) {
          results.push({ status: toStatus(error, log), federationRelationship: undefined });
        }
      }
      return { results };
    },

    async batchDeleteFederationRelationship({ trustDomains }, { log }) {
      const results = [];
      for (const given of trustDomains) {
        let name = given;
        try {
          if (given === "") throw invalidArgument("missing trust domain");
          const trustDomain = federatedTrustDomain(given);
          name = trustDomain;
          const existed = await relationships.delete(trustDomain);
          if (!existed) throw notFound("federation relationship not found");
          results.push({ status: okStatus, trustDomain: name });
        } catch (error) {
          results.push({ status: toStatus(error, log), trustDomain: name });
        }
      }
      return { results };
    },

    async refreshBundle({ trustDomain: name }) {
      const trustDomain = federatedTrustDomain(name);
      let known: boolean;
      try {
        known = await bundleRefresh.refresh(trustDomain);
      } catch (error) {
        const message = `failed to refresh bundle: ${SpireError.from(error).message}`;
        throw new SpireError("INTERNAL", message, { cause: error });
      }
      if (!known) throw notFound(`no relationship with trust domain "${trustDomain}"`);
      return {};
    },
  });
}

/** A duplicate and an unknown trust domain are INTERNAL to SPIRE's clients; what the caller got wrong stays so. */
async function stored<T>(doing: "create" | "update", work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof SpireError) || error.code === "INVALID_ARGUMENT") throw error;
    const message = `failed to ${doing} federation relationship: ${error.message}`;
    throw new SpireError("INTERNAL", message, { cause: error });
  }
}
