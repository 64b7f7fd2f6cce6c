/** SPIFFE IDs and trust domains: parsing, validating, formatting (SPIFFE-ID standard, sections 2 and 2.1-2.3). */
import { invalidArgument } from "./errors.ts";

declare const trustDomainBrand: unique symbol;
declare const spiffeIdBrand: unique symbol;

/** A valid trust domain name, without a scheme, such as `example.org`. */
export type TrustDomain = string & { readonly [trustDomainBrand]: true };

/** A valid SPIFFE ID in its one canonical text form, such as `spiffe://example.org/web`. */
export type SpiffeId = string & { readonly [spiffeIdBrand]: true };

const scheme = "spiffe://";
/** Section 2.3: implementations must support 2,048 bytes, and nothing longer may be generated. */
const longestIdBytes = 2048;
/** Section 2.1. */
const longestTrustDomainBytes = 255;
const trustDomainPattern = /^[a-z0-9._-]+$/;
const segmentPattern = /^[A-Za-z0-9._-]+$/;

/** @throws SpireError INVALID_ARGUMENT with the rule that is broken. */
export function parseTrustDomain(text: string): TrustDomain {
  if (text === "") throw invalidArgument("trust domain is missing");
  if (!trustDomainPattern.test(text)) {
    throw invalidArgument(
      "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores",
    );
  }
  if (text.length > longestTrustDomainBytes) {
    throw invalidArgument(`trust domain is longer than ${longestTrustDomainBytes} bytes`);
  }
  return text as TrustDomain;
}

/** Takes a bare name, a `spiffe://` trust domain ID or any SPIFFE ID, as SPIRE's commands do. */
export function parseTrustDomainOrId(text: string): TrustDomain {
  return text.includes(":/") ? trustDomainOf(parseSpiffeId(text)) : parseTrustDomain(text);
}

/** Checks a path: empty, or segments that each begin with a slash. */
function validatePath(path: string): void {
  if (path === "") return;
  if (!path.startsWith("/")) throw invalidArgument("path must have a leading slash");
  const segments = path.slice(1).split("/");
  for (const [index, segment] of segments.entries()) {
    if (segment === "") {
      const last = index === segments.length - 1;
      throw invalidArgument(
        last ? "path cannot have a trailing slash" : "path cannot contain empty segments",
      );
    }
    if (segment === "." || segment === "..") throw invalidArgument("path cannot contain dot segments");
    if (!segmentPattern.test(segment)) {
      throw invalidArgument(
        "path segment characters are limited to letters, numbers, dots, dashes, and underscores",
      );
    }
  }
}

/** @throws SpireError INVALID_ARGUMENT with the rule that is broken. */
export function parseSpiffeId(text: string): SpiffeId {
  if (text === "") throw invalidArgument("cannot be empty");
  if (!text.startsWith(scheme)) throw invalidArgument("scheme is missing or invalid");
  const rest = text.slice(scheme.length);
  const slash = rest.indexOf("/");
  return makeSpiffeId(
    parseTrustDomain(slash < 0 ? rest : rest.slice(0, slash)),
    slash < 0 ? "" : rest.slice(slash),
  );
}

/** Joins a trust domain and a path (empty or with a leading slash). */
export function makeSpiffeId(trustDomain: TrustDomain, path: string): SpiffeId {
  validatePath(path);
  const id = scheme + trustDomain + path;
  if (id.length > longestIdBytes) throw invalidArgument(`SPIFFE ID is longer than ${longestIdBytes} bytes`);
  return id as SpiffeId;
}

export function trustDomainOf(id: SpiffeId): TrustDomain {
  const slash = id.indexOf("/", scheme.length);
  return (slash < 0 ? id.slice(scheme.length) : id.slice(scheme.length, slash)) as TrustDomain;
}

/** The path with its leading slash; empty for a trust domain's own ID. */
export function pathOf(id: SpiffeId): string {
  const slash = id.indexOf("/", scheme.length);
  return slash < 0 ? "" : id.slice(slash);
}

export const trustDomainId = (trustDomain: TrustDomain): SpiffeId => (scheme + trustDomain) as SpiffeId;

/** `spiffe://<td>/spire/server`. */
export const serverId = (trustDomain: TrustDomain): SpiffeId =>
  `${scheme}${trustDomain}/spire/server` as SpiffeId;

/** `spiffe://<td>/spire/agent<path>`; path with a leading slash. */
export const agentId = (trustDomain: TrustDomain, path: string): SpiffeId =>
  makeSpiffeId(trustDomain, `/spire/agent${path}`);

export const isAgentId = (id: SpiffeId): boolean => pathOf(id).startsWith("/spire/agent/");

/** `/spire` and everything under it belongs to SPIRE itself and can't be given to a workload. */
export const isReserved = (id: SpiffeId): boolean => {
  const path = pathOf(id);
  return path === "/spire" || path.startsWith("/spire/");
};
