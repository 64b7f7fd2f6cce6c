/** Federation relationships between messages and the domain, with their masks. */
import { invalidArgument } from "../../core/errors.ts";
import {
  type EndpointProfile,
  type FederationRelationship,
  requireBundleEndpointUrl,
} from "../../core/federation.ts";
import { parseSpiffeId, parseTrustDomainOrId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { TrustBundle } from "../../core/trust-bundle.ts";
import type {
  FederationRelationshipMask,
  FederationRelationship as RelationshipMessage,
} from "../../rpc/gen/spire/api/types/federationrelationship.ts";
import type { RelationshipUpdate } from "../federation/relationships.ts";
import { fromBundleMessage, toBundleMessage } from "./convert-bundle.ts";
import { within } from "./convert-id.ts";

/** What the mask names, all without one; the trust domain always. `bundle` is the one stored for it. */
export function toRelationshipMessage(
  relationship: FederationRelationship,
  bundle: TrustBundle | undefined,
  mask: FederationRelationshipMask | undefined,
): RelationshipMessage {
  const has = (field: keyof FederationRelationshipMask) => !mask || mask[field];
  const { trustDomain, bundleEndpointUrl, profile } = relationship;
  return {
    trustDomain,
    bundleEndpointUrl: has("bundleEndpointUrl") ? bundleEndpointUrl : "",
    bundleEndpointProfile: has("bundleEndpointProfile") ? toProfileMessage(profile) : undefined,
    trustDomainBundle: bundle && has("trustDomainBundle") ? toBundleMessage(bundle) : undefined,
  };
}

const toProfileMessage = (profile: EndpointProfile): RelationshipMessage["bundleEndpointProfile"] =>
  profile.type === "https_web"
    ? { $case: "httpsWeb", value: {} }
    : { $case: "httpsSpiffe", value: { endpointSpiffeId: profile.endpointSpiffeId } };

export interface GivenRelationship {
  readonly relationship: FederationRelationship;
  readonly bundle?: TrustBundle;
}

/** @throws SpireError INVALID_ARGUMENT `failed to convert federation relationship: …`. */
export const fromRelationshipMessage = (message: RelationshipMessage): GivenRelationship =>
  within("failed to convert federation relationship", () => {
    const trustDomain = federatedTrustDomain(message.trustDomain);
    const bundleEndpointUrl = requireBundleEndpointUrl(message.bundleEndpointUrl);
    const profile = fromProfileMessage(message.bundleEndpointProfile);
    const bundle = message.trustDomainBundle && bundleOf(message.trustDomainBundle, trustDomain);
    return { relationship: { trustDomain, bundleEndpointUrl, profile }, ...(bundle && { bundle }) };
  });

/** @throws SpireError INVALID_ARGUMENT `failed to parse trust domain: …`. */
export const federatedTrustDomain = (name: string): TrustDomain =>
  within("failed to parse trust domain", () => parseTrustDomainOrId(name));

function fromProfileMessage(profile: RelationshipMessage["bundleEndpointProfile"]): EndpointProfile {
  if (!profile) throw invalidArgument("unsupported bundle endpoint profile type: <nil>");
  if (profile.$case === "httpsWeb") return { type: "https_web" };
  const endpointSpiffeId = within("failed to parse endpoint SPIFFE ID", () =>
    parseSpiffeId(profile.value.endpointSpiffeId),
  );
  return { type: "https_spiffe", endpointSpiffeId };
}

function bundleOf(
  message: NonNullable<RelationshipMessage["trustDomainBundle"]>,
  trustDomain: TrustDomain,
): TrustBundle {
  const failure = "failed to parse bundle";
  const name = message.trustDomain;
  const named = within(`${failure}: invalid trust domain`, () => parseTrustDomainOrId(name));
  const bundle = fromBundleMessage(message, named, failure);
  if (named === trustDomain) return bundle;
  throw invalidArgument(
    `trust domain bundle ("${name}") must match the trust domain of the federation relationship ("${trustDomain}")`,
  );
}

/** The fields that the mask names; all without one. */
export function toRelationshipUpdate(
  { relationship, bundle }: GivenRelationship,
  mask: FederationRelationshipMask | undefined,
): RelationshipUpdate {
  const { trustDomain, bundleEndpointUrl, profile } = relationship;
  return {
    trustDomain,
    ...((!mask || mask.bundleEndpointUrl) && { bundleEndpointUrl }),
    ...((!mask || mask.bundleEndpointProfile) && { profile }),
    ...((!mask || mask.trustDomainBundle) && bundle && { bundle }),
  };
}
