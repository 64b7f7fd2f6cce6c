/** The bundle endpoint's client: fetches a trust domain's bundle over verified TLS (SPIFFE Federation, section 5.2). */
import { isIP } from "node:net";
import { connect, getCACertificates, rootCertificates, type TLSSocket } from "node:tls";
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { type FederationRelationship, requireBundleEndpointUrl } from "../../core/federation.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import { parseSpiffeBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { verifySvidChain } from "../../core/x509/verify.ts";
import { type PeerBundle, peerChain, tlsFloor } from "../../rpc/tls.ts";
import { type HttpAnswer, httpGet } from "./http-get.ts";

export interface BundleFetch {
  readonly relationship: FederationRelationship;
  /** Bundle of the endpoint's own trust domain, for https_spiffe. */
  readonly endpointBundle: PeerBundle | undefined;
  readonly clock: Clock;
  /** Ends the fetch. */
  readonly signal: AbortSignal;
  /** PEM certificates that vouch for https_web endpoints; those of the system and of the runtime unless said. */
  readonly webRoots?: readonly string[];
  /** Talks to https_spiffe endpoints by a key exchange that withstands quantum computers, or not at all. */
  readonly requirePqKem?: boolean;
}

const fetchMs = 30_000;
const longestRedirection = 5;
const redirections: readonly number[] = [301, 302, 303, 307, 308];

/**
 * Follows redirections to other endpoints of the same identity.
 * @throws SpireError FAILED_PRECONDITION without the bundle that https_spiffe needs; UNAVAILABLE with the reason
 *   when the endpoint can't be reached, isn't who it should be or answers anything but a SPIFFE bundle.
 */
export async function fetchBundle(fetch: BundleFetch): Promise<TrustBundle> {
  const { relationship, endpointBundle } = fetch;
  const endpoint = endpointOf(relationship, endpointBundle);
  try {
    let url = relationship.bundleEndpointUrl;
    for (let followed = 0; followed <= longestRedirection; followed += 1) {
      const answer = await get(new URL(url), endpoint, fetch);
      const location = answer.headers.get("location");
      if (redirections.includes(answer.status) && location !== undefined) {
        url = requireBundleEndpointUrl(new URL(location, url).href);
        continue;
      }
      if (answer.status !== 200) {
        throw new SpireError("UNAVAILABLE", `unexpected status ${answer.status} fetching bundle`);
      }
      return parseSpiffeBundle(relationship.trustDomain, answer.body.toString("utf8"));
    }
    throw new SpireError("UNAVAILABLE", "too many redirections");
  } catch (cause) {
    const message = `failed to fetch federated bundle from endpoint: ${SpireError.from(cause).message}`;
    throw new SpireError("UNAVAILABLE", message, { cause });
  }
}

/** Who the endpoint has to be; undefined where its host name counts. */
interface SpiffeEndpoint {
  readonly id: SpiffeId;
  readonly bundle: PeerBundle;
}

function endpointOf(
  { profile }: FederationRelationship,
  bundle: PeerBundle | undefined,
): SpiffeEndpoint | undefined {
  if (profile.type === "https_web") return undefined;
  if (bundle) return { id: profile.endpointSpiffeId, bundle };
  const message = "can't perform SPIFFE Authentication: local copy of bundle not found";
  throw new SpireError("FAILED_PRECONDITION", message);
}

async function get(url: URL, endpoint: SpiffeEndpoint | undefined, fetch: BundleFetch): Promise<HttpAnswer> {
  const { clock, signal } = fetch;
  const socket = open(url, endpoint, fetch);
  const ended = Promise.withResolvers<never>();
  const end = (error: SpireError) => {
    ended.reject(error);
    socket.destroy();
  };
  const cancelTimer = clock.after(fetchMs, () =>
    end(new SpireError("DEADLINE_EXCEEDED", "the endpoint did not answer in time")),
  );
  const abort = () => end(new SpireError("CANCELLED", "the fetch was called off"));
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([ended.promise, exchange(socket, url, endpoint, clock)]);
  } catch (error) {
    throw SpireError.from(error).within(`failed to fetch bundle: Get "${url.href}"`);
  } finally {
    cancelTimer();
    signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

async function exchange(
  socket: TLSSocket,
  url: URL,
  endpoint: SpiffeEndpoint | undefined,
  clock: Clock,
): Promise<HttpAnswer> {
  await new Promise<void>((resolve, reject) => {
    socket.once("secureConnect", resolve);
    socket.once("close", () => reject(new SpireError("UNAVAILABLE", "the connection was closed")));
    // Listens to the end: an error without a listener would end the process.
    socket.on("error", (cause) => reject(new SpireError("UNAVAILABLE", cause.message, { cause })));
  });
  if (endpoint) verifyEndpoint(socket, endpoint, clock);
  return httpGet(socket, url);
}

function open(
  url: URL,
  endpoint: SpiffeEndpoint | undefined,
  { webRoots, requirePqKem = false }: BundleFetch,
): TLSSocket {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return connect({
    host,
    port: url.port === "" ? 443 : Number(url.port),
    ...(isIP(host) === 0 && { servername: host }),
    ALPNProtocols: ["http/1.1"],
    ...tlsFloor(requirePqKem && endpoint !== undefined),
    ...(endpoint
      ? // The verdict is ours: see verifyEndpoint.
        { rejectUnauthorized: false }
      : { rejectUnauthorized: true, ca: [...(webRoots ?? defaultWebRoots())] }),
  });
}

const defaultWebRoots = (): readonly string[] => [
  ...new Set([...rootCertificates, ...getCACertificates("system"), ...getCACertificates("extra")]),
];

/** @throws SpireError UNAUTHENTICATED with the reason. */
function verifyEndpoint(socket: TLSSocket, endpoint: SpiffeEndpoint, clock: Clock): void {
  const { id } = verifySvidChain(peerChain(socket), endpoint.bundle, unixSeconds(clock));
  if (id === endpoint.id) return;
  throw new SpireError("UNAUTHENTICATED", `the endpoint is "${id}", expected "${endpoint.id}"`);
}
