/** The `federation` section: raw values > the bundle endpoint and the relationships, checked in SPIRE's words. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import {
  type EndpointProfile,
  type FederationRelationship,
  requireBundleEndpointUrl,
} from "../core/federation.ts";
import { quote } from "../core/go-text.ts";
import { parseSpiffeId, parseTrustDomainOrId, type TrustDomain } from "../core/spiffe-id.ts";
import { readBundleEndpoint } from "./bundle-endpoint.ts";
import type { Checks } from "./checks.ts";
import type { Origin } from "./origin.ts";
import type { FederationConfig } from "./server-config.ts";
import type { RawServerFile } from "./server-schema.ts";

type RawFederation = NonNullable<NonNullable<RawServerFile["server"]>["federation"]>;
type RawRelationship = NonNullable<RawFederation["federates_with"]>[string];

/** @returns what holds, and sentences with their places. @throws SpireError for the first thing that doesn't hold. */
export function readFederation(
  federation: RawFederation,
  own: TrustDomain,
  origin: Origin,
  checks: Checks,
): { readonly config: FederationConfig; readonly warnings: readonly string[] } {
  const { bundle_endpoint: raw, federates_with: relationships = {} } = federation;
  const { endpoint, warnings = [] } = raw ? readBundleEndpoint(raw, origin, checks) : {};
  const federatesWith = Object.entries(relationships).map(([trustDomain, relationship]) =>
    readRelationship(trustDomain, relationship, own, origin),
  );
  return { config: { ...(endpoint && { bundleEndpoint: endpoint }), federatesWith }, warnings };
}

function readRelationship(
  name: string,
  relationship: RawRelationship,
  own: TrustDomain,
  origin: Origin,
): FederationRelationship {
  const path = `server.federation.federates_with[${quote(name)}]`;
  const bundleEndpointUrl = readUrl(name, relationship.bundle_endpoint_url ?? "", path, origin);
  const { bundle_endpoint_profile: profile } = relationship;
  if (!profile) {
    const message = `federation configuration for trust domain ${quote(name)}: missing bundle endpoint configuration`;
    throw origin.problem(message, path, 'add bundle_endpoint_profile "https_spiffe" or "https_web"');
  }
  const failure = `error parsing federation relationship for trust domain ${quote(name)}`;
  const checked = <T>(parse: () => T, reason: string, place: string): T => {
    try {
      return parse();
    } catch (error) {
      throw origin.problem(`${failure}: ${reason}${SpireError.from(error).message}`, place);
    }
  };
  const trustDomain = readName(name, path, origin);
  if (trustDomain === own) {
    throw origin.problem(`${failure}: cannot federate with own trust domain`, path, "remove it");
  }
  const id = profile.https_spiffe?.endpoint_spiffe_id ?? "";
  const place = `${path}.bundle_endpoint_profile`;
  const readProfile = (): EndpointProfile => {
    if (profile.https_spiffe && profile.https_web)
      throw origin.problem(`${failure}: exactly one bundle endpoint profile is expected`, place);
    if (!profile.https_spiffe && !profile.https_web) {
      throw invalidArgument(
        `no bundle endpoint profile defined; current supported profiles are "https_spiffe" and 'https_web"`,
      );
    }
    if (!profile.https_spiffe) return { type: "https_web" };
    return {
      type: "https_spiffe",
      endpointSpiffeId: checked(
        () => parseSpiffeId(id),
        "could not get endpoint SPIFFE ID: ",
        `${place}.https_spiffe.endpoint_spiffe_id`,
      ),
    };
  };
  if (!profile.https_spiffe)
    return { trustDomain, bundleEndpointUrl, profile: checked(readProfile, "", place) };
  return { trustDomain, bundleEndpointUrl, profile: readProfile() };
}

function readName(name: string, path: string, origin: Origin): TrustDomain {
  try {
    return parseTrustDomainOrId(name);
  } catch (error) {
    throw origin.problem(SpireError.from(error).message, path);
  }
}

function readUrl(name: string, url: string, path: string, origin: Origin): string {
  const option = `federation.federates_with[${quote(name)}].bundle_endpoint_url`;
  const place = `${path}.bundle_endpoint_url`;
  if (url === "") throw origin.problem(`${option} must be configured`, place);
  if (!url.toLowerCase().startsWith("https://")) {
    throw origin.problem(`${option} must use the HTTPS protocol; URL found: ${quote(url)}`, place);
  }
  try {
    return requireBundleEndpointUrl(url);
  } catch (error) {
    throw origin.problem(`${option}: ${SpireError.from(error).message}`, place);
  }
}
