/** The federation relationships that administrators make at run time, with the bundle that may come along. */
import { invalidArgument, SpireError } from "../../core/errors.ts";
import type { FederationRelationship } from "../../core/federation.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import type { TrustBundle } from "../../core/trust-bundle.ts";
import type { Page, PageRequest } from "../../plugins/datastores/index.ts";
import type { Registry } from "../registry.ts";

/** Fields to be replaced. */
export type RelationshipUpdate = Pick<FederationRelationship, "trustDomain"> &
  Partial<FederationRelationship> & {
    /** The trust domain's bundle; undefined leaves the stored one. */
    readonly bundle?: TrustBundle;
  };

export interface Relationships {
  get(trustDomain: TrustDomain): Promise<FederationRelationship | undefined>;
  list(page: PageRequest): Promise<Page<FederationRelationship>>;
  /**
   * Stores the relationship, and the bundle if one is given.
   * @throws SpireError INVALID_ARGUMENT for the server's own trust domain; ALREADY_EXISTS.
   */
  create(relationship: FederationRelationship, bundle?: TrustBundle): Promise<void>;
  /** The relationship as it is then. @throws SpireError NOT_FOUND. */
  update(update: RelationshipUpdate): Promise<FederationRelationship>;
  /** Whether it was there. The bundle stays: entries may federate with it. */
  delete(trustDomain: TrustDomain): Promise<boolean>;
  /** Called after each change. Returns the function that ends the listening. */
  onChange(listener: () => void): () => void;
}

export function createRelationships(registry: Registry): Relationships {
  const { store } = registry;
  const listeners = new Set<() => void>();

  async function changed(): Promise<void> {
    await registry.catchUp();
    for (const listener of listeners) listener();
  }

  return {
    get: (trustDomain) => store.federation.get(trustDomain),
    list: (page) => store.federation.list(page),
    async create(relationship, bundle) {
      if (relationship.trustDomain === registry.trustDomain) {
        throw invalidArgument("unable to create federation relationship for server trust domain");
      }
      await store.transaction(async ({ federation, bundles }) => {
        await federation.create(relationship);
        if (bundle) await bundles.mutate(relationship.trustDomain, () => bundle);
      });
      await changed();
    },
    async update({ bundle, ...fields }) {
      const updated = await store.transaction(async ({ federation, bundles }) => {
        const current = await federation.get(fields.trustDomain);
        if (!current) {
          throw new SpireError("NOT_FOUND", "unable to fetch federation relationship: record not found");
        }
        const relationship = { ...current, ...fields };
        await federation.update(relationship);
        if (bundle) await bundles.mutate(fields.trustDomain, () => bundle);
        return relationship;
      });
      await changed();
      return updated;
    },
    async delete(trustDomain) {
      const existed = await store.federation.delete(trustDomain);
      if (existed) await changed();
      return existed;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
