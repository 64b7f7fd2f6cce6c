/** Federation relationships: where another trust domain's bundle is fetched, and how its endpoint is known. */
import { invalidArgument } from "./errors.ts";
import type { SpiffeId, TrustDomain } from "./spiffe-id.ts";

/** How a bundle endpoint is authenticated (SPIFFE Federation, section 5.2). */
export type EndpointProfile =
  | { readonly type: "https_web" }
  | { readonly type: "https_spiffe"; readonly endpointSpiffeId: SpiffeId };

export interface FederationRelationship {
  readonly trustDomain: TrustDomain;
  /** As `requireBundleEndpointUrl` accepts it. */
  readonly bundleEndpointUrl: string;
  readonly profile: EndpointProfile;
}

export const equalRelationships = (a: FederationRelationship, b: FederationRelationship): boolean =>
  a.trustDomain === b.trustDomain &&
  a.bundleEndpointUrl === b.bundleEndpointUrl &&
  endpointIdOf(a.profile) === endpointIdOf(b.profile);

/** The SPIFFE ID that the endpoint must have; empty where Web PKI vouches for it. */
export const endpointIdOf = (profile: EndpointProfile): string =>
  profile.type === "https_spiffe" ? profile.endpointSpiffeId : "";

/** Scheme and authority of a URL (RFC 3986, appendix B). */
const urlStart = /^(?:([a-z][a-z0-9+.-]*):)?(?:\/\/([^/?#]*))?/i;

/**
 * The URL (SPIFFE Federation, sections 5.2.1.1 and 5.2.2.1: https, a host, no user information), its scheme in
 * lowercase, and what a URL can't have as it is (RFC 3986, 2.1) percent-encoded.
 * @throws SpireError INVALID_ARGUMENT in SPIRE's words.
 */
export function requireBundleEndpointUrl(url: string): string {
  const malformed = (reason: string) =>
    invalidArgument(`failed to parse bundle endpoint URL: parse ${JSON.stringify(url)}: ${reason}`);
  if (/\p{Cc}/u.test(url)) throw malformed("net/url: invalid control character in URL");
  if (url.startsWith(":")) throw malformed("missing protocol scheme");
  if (/^[^a-z/?#][^/?#]*:/i.test(url)) throw malformed("first path segment in URL cannot contain colon");
  const [badEscape] = /%(?![0-9a-f]{2}).{0,2}/i.exec(url) ?? [];
  if (badEscape !== undefined) throw malformed(`invalid URL escape ${JSON.stringify(badEscape)}`);
  // URL would find a host in `https:///path`.
  const [, scheme = "", authority = ""] = urlStart.exec(url) ?? [];
  if (scheme.toLowerCase() !== "https")
    throw invalidArgument("bundle endpoint URL must use the https scheme");
  if (authority.replace(/:\d*$/, "") === "") {
    throw invalidArgument("bundle endpoint URL must specify the host");
  }
  if (authority.includes("@")) throw invalidArgument("bundle endpoint URL must not contain user info");
  if (!URL.canParse(url)) throw malformed("invalid URL");
  return url.replace(/^https/i, "https").replace(/[^\x21-\x7e]+|["<>\\^`{|}]+/g, encodeURIComponent);
}
