/** The SPIFFE Workload API: X.509-SVIDs, JWT-SVIDs and bundles for the process at the other end of the socket. */
import { type Clock, unixSeconds } from "../../core/clock.ts";
import type { Entry } from "../../core/entry.ts";
import { invalidArgument, permissionDenied, SpireError } from "../../core/errors.ts";
import { verifyJwtSvid } from "../../core/jwt-svid.ts";
import { parseSpiffeId, type TrustDomain, trustDomainOf } from "../../core/spiffe-id.ts";
import type { TokenAuthority, TrustBundle } from "../../core/trust-bundle.ts";
import { type JWTSVID, SpiffeWorkloadAPIService } from "../../rpc/gen/spiffe/workload/workloadapi.ts";
import {
  type BoundService,
  bindService,
  type Call,
  type EncodedMessage,
  type PeerProcess,
} from "../../rpc/service.ts";
import type { WorkloadCache } from "../cache.ts";
import type { JwtCache } from "../jwt-cache.ts";
import type { StreamKind, WorkloadView } from "../view.ts";
import { attestationFailed, type WorkloadAttestation } from "../workload.ts";

export interface WorkloadApiDeps {
  readonly trustDomain: TrustDomain;
  readonly clock: Clock;
  readonly cache: WorkloadCache;
  readonly jwtCache: JwtCache;
  readonly attestation: WorkloadAttestation;
  /** Claims besides sub, exp and aud that a token of another trust domain may show. */
  readonly allowedForeignJwtClaims: readonly string[];
}

export function createWorkloadApi(deps: WorkloadApiDeps): BoundService {
  return bindService(SpiffeWorkloadAPIService, {
    fetchX509Svid: (_request, call) => stream(deps, call, "x509-svids"),
    fetchX509Bundles: (_request, call) => stream(deps, call, "x509-bundles"),
    fetchJwtBundles: (_request, call) => stream(deps, call, "jwt-bundles"),
    fetchJwtsvid: (request, call) => fetchJwtSvids(deps, request, call),
    validateJwtsvid: (request, call) => validateJwtSvid(deps, request, call),
    fetchWitsvid: (_request, call) => refuseWit(call, "fetching WIT-SVIDs is not implemented"),
    fetchWitBundles: (_request, call) => refuseWit(call, "fetching WIT bundles is not implemented"),
  });
}

/**
 * The header that a browser or another confused client can't be made to send (Workload Endpoint standard, 6.2).
 *
 * @throws SpireError INVALID_ARGUMENT.
 */
function requireSecurityHeader(call: Call): void {
  const [value, ...more] = call.metadata("workload.spiffe.io");
  if (value !== "true" || more.length > 0) throw invalidArgument("security header missing from request");
}

const noIdentity = (): SpireError => permissionDenied("no identity issued");

/** What the caller is entitled to, and the process that it is. */
async function identify(
  { cache, attestation }: WorkloadApiDeps,
  call: Call,
): Promise<{ process: PeerProcess; view: WorkloadView }> {
  const { process } = call.caller;
  if (!process) throw attestationFailed();
  await cache.whenReady(call.signal);
  const view = cache.view(await attestation.attest(process, call.signal));
  return { process, view };
}

/** The newest message now, and again each time it differs; ends with the client, the process or the identity. */
async function* stream(
  deps: WorkloadApiDeps,
  call: Call,
  kind: StreamKind,
): AsyncGenerator<EncodedMessage, void> {
  requireSecurityHeader(call);
  const { process, view } = await identify(deps, call);
  const changes = watch(view, call.signal);
  let sent: EncodedMessage | undefined;
  try {
    while (!call.signal.aborted) {
      if (view.entries().length === 0) throw noIdentity();
      const message = view.message(kind);
      if (message && message !== sent) {
        if (!process.isAlive()) throw attestationFailed();
        sent = message;
        yield message;
      } else {
        await changes.next();
      }
    }
  } finally {
    changes.stop();
  }
}

interface Changes {
  /** Resolves once something changed since the last call, or the signal is aborted. */
  next(): Promise<void>;
  stop(): void;
}

/** Counts any number of changes as one, so that a slow reader never has more than the newest state to read. */
function watch(view: WorkloadView, signal: AbortSignal): Changes {
  let changed = false;
  let wake: (() => void) | undefined;
  const onChange = () => {
    changed = true;
    wake?.();
  };
  const unsubscribe = view.listen(onChange);
  signal.addEventListener("abort", onChange, { once: true });
  return {
    async next() {
      if (!changed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      wake = undefined;
      changed = false;
    },
    stop() {
      unsubscribe();
      signal.removeEventListener("abort", onChange);
    },
  };
}

async function fetchJwtSvids(
  deps: WorkloadApiDeps,
  request: { readonly audience: readonly string[]; readonly spiffeId: string },
  call: Call,
): Promise<{ svids: JWTSVID[] }> {
  requireSecurityHeader(call);
  const audience = request.audience.filter((name) => name !== "");
  if (audience.length === 0) throw invalidArgument("audience must be specified");
  const wanted = request.spiffeId === "" ? undefined : parseRequestedId(request.spiffeId);
  const { process, view } = await identify(deps, call);
  const entries = view.entries().filter(({ spiffeId }) => wanted === undefined || spiffeId === wanted);
  if (entries.length === 0) throw noIdentity();
  const svids = await Promise.all(entries.map((entry) => fetchJwtSvid(deps, entry, audience)));
  // The server may have taken its time; the connection can outlive the process in what that started.
  if (!process.isAlive()) throw attestationFailed();
  return { svids };
}

function parseRequestedId(text: string): string {
  try {
    return parseSpiffeId(text);
  } catch (error) {
    throw SpireError.from(error).within("invalid requested SPIFFE ID");
  }
}

async function fetchJwtSvid(
  { jwtCache }: WorkloadApiDeps,
  entry: Entry,
  audience: readonly string[],
): Promise<JWTSVID> {
  try {
    return { spiffeId: entry.spiffeId, svid: await jwtCache.fetch(entry, audience), hint: entry.hint };
  } catch (cause) {
    const { message } = SpireError.from(cause);
    throw new SpireError("UNAVAILABLE", `could not fetch JWT-SVID: ${message}`, { cause });
  }
}

async function validateJwtSvid(
  deps: WorkloadApiDeps,
  { audience, svid }: { readonly audience: string; readonly svid: string },
  call: Call,
): Promise<{ spiffeId: string; claims: Record<string, unknown> }> {
  requireSecurityHeader(call);
  if (audience === "") throw invalidArgument("audience must be specified");
  if (svid === "") throw invalidArgument("svid must be specified");
  const { view } = await identify(deps, call);
  const findKey = (trustDomain: TrustDomain, keyId: string) =>
    findTokenAuthority(visibleBundle(deps, view, trustDomain), keyId);
  const verified = await verifyJwtSvid(svid, findKey, audience, unixSeconds(deps.clock));
  const claims = { ...verified.claims, aud: [...verified.audience] };
  const shown = trustDomainOf(verified.spiffeId) === deps.trustDomain ? claims : foreignClaims(deps, claims);
  return { spiffeId: verified.spiffeId, claims: shown };
}

/** The own bundle, or one that an identity of the caller federates with. */
function visibleBundle(
  { cache, trustDomain: own }: WorkloadApiDeps,
  view: WorkloadView,
  trustDomain: TrustDomain,
): TrustBundle | undefined {
  if (trustDomain === own) return cache.bundle();
  const federates = view.entries().some(({ federatesWith }) => federatesWith.includes(trustDomain));
  return federates ? cache.federatedBundles().get(trustDomain) : undefined;
}

/** null = no bundle, undefined = no such key in it, as `verifyJwtSvid` tells them apart. */
function findTokenAuthority(
  bundle: TrustBundle | undefined,
  keyId: string,
): TokenAuthority | undefined | null {
  return bundle ? bundle.jwtAuthorities.find((authority) => authority.keyId === keyId) : null;
}

function foreignClaims(
  { allowedForeignJwtClaims }: WorkloadApiDeps,
  claims: Record<string, unknown>,
): Record<string, unknown> {
  const allowed = new Set(["sub", "exp", "aud", ...allowedForeignJwtClaims]);
  return Object.fromEntries(Object.entries(claims).filter(([name]) => allowed.has(name)));
}

function refuseWit(call: Call, message: string): never {
  requireSecurityHeader(call);
  throw new SpireError("UNIMPLEMENTED", message);
}
