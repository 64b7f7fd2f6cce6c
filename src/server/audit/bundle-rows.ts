/** What is audited of bundle.v1 and trustdomain.v1: which trust domain, and which authorities, by their hashes. */
import type { LogFields } from "../../core/log.ts";
import { BundleService } from "../../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { TrustDomainService } from "../../rpc/gen/spire/api/server/trustdomain/v1/trustdomain.ts";
import type { Bundle, BundleMask, JWTKey, X509Certificate } from "../../rpc/gen/spire/api/types/bundle.ts";
import type {
  FederationRelationship,
  FederationRelationshipMask,
} from "../../rpc/gen/spire/api/types/federationrelationship.ts";
import { federatedTrustDomain } from "../api/convert-federation.ts";
import { auditRows, itemsOf, readable, sha256 } from "./rows.ts";

const trustDomainFields = ({ trustDomain }: { readonly trustDomain: string }): LogFields => ({
  trust_domain_id: trustDomain,
});

export const bundleRows = auditRows(BundleService, {
  countBundles: {},
  getBundle: { fields: (_, { registry }) => ({ trust_domain_id: registry.trustDomain }) },
  appendBundle: {
    fields: ({ jwtAuthorities, x509Authorities, witAuthorities }) => ({
      ...keysFields("jwt_authority", jwtAuthorities),
      ...x509Fields(x509Authorities),
      ...keysFields("wit_authority", witAuthorities),
    }),
  },
  publishJwtAuthority: {
    fields: ({ jwtAuthority: key }) => (key ? keyFields("jwt_authority", key, "") : {}),
  },
  publishWitAuthority: {
    fields: ({ witAuthority: key }, { error }) =>
      key && error?.code !== "UNIMPLEMENTED" ? keyFields("wit_authority", key, "") : {},
  },
  listFederatedBundles: {},
  getFederatedBundle: { fields: trustDomainFields },
  batchCreateFederatedBundle: {
    items: ({ bundle }, { results }) => itemsOf(bundle, results, (given) => bundleFields(given)),
  },
  batchUpdateFederatedBundle: {
    items: ({ bundle, inputMask }, { results }) =>
      itemsOf(bundle, results, (given) => bundleFields(given, inputMask)),
  },
  batchSetFederatedBundle: {
    items: ({ bundle }, { results }) => itemsOf(bundle, results, (given) => bundleFields(given)),
  },
  batchDeleteFederatedBundle: {
    items: ({ trustDomains, mode }, { results }) =>
      itemsOf(trustDomains, results, (trustDomain) => ({ trust_domain_id: trustDomain, mode })),
  },
});

export const trustDomainRows = auditRows(TrustDomainService, {
  listFederationRelationships: {},
  getFederationRelationship: { fields: trustDomainFields },
  batchCreateFederationRelationship: {
    items: ({ federationRelationships }, { results }) =>
      itemsOf(federationRelationships, results, (given) => relationshipFields(given)),
  },
  batchUpdateFederationRelationship: {
    items: ({ federationRelationships, inputMask }, { results }) =>
      itemsOf(federationRelationships, results, (given) => relationshipFields(given, inputMask)),
  },
  batchDeleteFederationRelationship: {
    items: ({ trustDomains }, { results }) =>
      itemsOf(trustDomains, results, (trustDomain) => ({ trust_domain_id: trustDomain })),
  },
  refreshBundle: {
    fields: ({ trustDomain }) =>
      readable(() => federatedTrustDomain(trustDomain)) ? { trust_domain_id: trustDomain } : {},
  },
});

function bundleFields(bundle: Bundle, mask?: BundleMask): LogFields {
  const has = (field: keyof BundleMask) => !mask || mask[field];
  return {
    trust_domain_id: bundle.trustDomain,
    refresh_hint: has("refreshHint") ? bundle.refreshHint : undefined,
    sequence_number: has("sequenceNumber") ? bundle.sequenceNumber : undefined,
    ...(has("jwtAuthorities") && keysFields("jwt_authority", bundle.jwtAuthorities)),
    ...(has("x509Authorities") && x509Fields(bundle.x509Authorities)),
  };
}

const keyFields = (name: string, key: JWTKey, suffix: string): LogFields => ({
  [`${name}_expires_at${suffix}`]: key.expiresAt,
  [`${name}_key_id${suffix}`]: key.keyId,
  [`${name}_public_key_sha256${suffix}`]: sha256(key.publicKey),
});

const keysFields = (name: string, keys: readonly JWTKey[]): LogFields =>
  Object.assign({}, ...keys.map((key, index) => keyFields(name, key, `.${index}`)));

const x509Fields = (certificates: readonly X509Certificate[]): LogFields =>
  Object.fromEntries(
    certificates.map(({ asn1 }, index) => [`x509_authorities_asn1_sha256.${index}`, sha256(asn1)]),
  );

function relationshipFields(given: FederationRelationship, mask?: FederationRelationshipMask): LogFields {
  const has = (field: keyof FederationRelationshipMask) => !mask || mask[field];
  const { bundleEndpointProfile: profile, trustDomainBundle: bundle } = given;
  return {
    trust_domain_id: given.trustDomain || undefined,
    bundle_endpoint_url: has("bundleEndpointUrl") ? given.bundleEndpointUrl : undefined,
    ...(has("bundleEndpointProfile") && profile && profileFields(profile)),
    ...(has("trustDomainBundle") && bundle && prefixed("bundle_", bundleFields(bundle))),
  };
}

type Profile = NonNullable<FederationRelationship["bundleEndpointProfile"]>;

const profileFields = (profile: Profile): LogFields =>
  profile.$case === "httpsWeb"
    ? { bundle_endpoint_profile: "https_web" }
    : { bundle_endpoint_profile: "https_spiffe", endpoint_spiffe_id: profile.value.endpointSpiffeId };

const prefixed = (prefix: string, fields: LogFields): LogFields =>
  Object.fromEntries(Object.entries(fields).map(([name, value]) => [`${prefix}${name}`, value]));
