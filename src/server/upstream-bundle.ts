/** What the trust bundle takes from an upstream authority's: new authorities, taint, and the end of what was tainted. */
import type { TrustDomain } from "../core/spiffe-id.ts";
import {
  type Authorities,
  emptyBundle,
  mergeBundles,
  type TokenAuthority,
  type TrustBundle,
  type X509Authority,
} from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import { verifiedChains } from "../core/x509/verify.ts";
import type { UpstreamBundle } from "../plugins/upstream-authorities/index.ts";
import type { JournalEntry } from "./journal.ts";

interface Addition {
  readonly trustDomain: TrustDomain;
  readonly nowSeconds: number;
}

/**
 * The bundle with the roots that are new, unless they have expired. Those it has stay as they are: taint is for
 * `followUpstream` to take over.
 */
export const withRoots = (
  bundle: TrustBundle | undefined,
  { roots, ...addition }: Addition & { readonly roots: readonly X509Authority[] },
): TrustBundle => {
  const x509Authorities = roots.filter(({ der }) => parseCertificate(der).notAfter > addition.nowSeconds);
  return withAuthorities(bundle, { x509Authorities }, addition);
};

/** The bundle with the keys that are new, unless they have expired. */
export const withJwtKeys = (
  bundle: TrustBundle | undefined,
  { keys, ...addition }: Addition & { readonly keys: readonly TokenAuthority[] },
): TrustBundle => {
  const jwtAuthorities = keys.filter(({ expiresAt }) => !expiresAt || expiresAt > addition.nowSeconds);
  return withAuthorities(bundle, { jwtAuthorities }, addition);
};

function withAuthorities(
  bundle: TrustBundle | undefined,
  added: Partial<Authorities>,
  { trustDomain }: Addition,
): TrustBundle {
  const current = bundle ?? emptyBundle(trustDomain);
  const merged = mergeBundles(current, { ...emptyBundle(trustDomain), ...added });
  return merged === current ? current : { ...merged, sequenceNumber: current.sequenceNumber + 1 };
}

/** The roots of the bundle that are not tainted in it, but are upstream. */
export function newlyTainted(bundle: TrustBundle, upstream: UpstreamBundle): readonly X509Authority[] {
  const tainted = new Set(upstream.x509Authorities.filter((root) => root.tainted).map(rootId));
  return bundle.x509Authorities.filter((root) => !root.tainted && tainted.has(rootId(root)));
}

export interface FollowTerms {
  /** Key IDs of this server's own JWT keys: what becomes of them is its own to say. */
  readonly ownKeyIds: ReadonlySet<string>;
  /** Unix seconds. */
  readonly nowSeconds: number;
}

/**
 * The bundle after a change upstream: what is tainted there is tainted here, what was tainted here and is no longer
 * there goes, and what is new comes. Authorities that aren't listed upstream any more, but were never tainted, stay
 * until they are pruned. The same object when nothing changes.
 */
export function followUpstream(
  bundle: TrustBundle,
  upstream: UpstreamBundle,
  { ownKeyIds, nowSeconds }: FollowTerms,
): TrustBundle {
  const { trustDomain } = bundle;
  const x509Authorities = follow(bundle.x509Authorities, upstream.x509Authorities, rootId);
  const kept = { ...bundle, x509Authorities };
  const rooted = withRoots(kept, { trustDomain, roots: upstream.x509Authorities, nowSeconds });
  const followed = withKeysOf(rooted, upstream.jwtAuthorities, ownKeyIds, nowSeconds);
  const isChanged =
    x509Authorities !== bundle.x509Authorities ||
    rooted !== kept ||
    followed.jwtAuthorities !== bundle.jwtAuthorities;
  return isChanged ? { ...followed, sequenceNumber: bundle.sequenceNumber + 1 } : bundle;
}

function withKeysOf(
  bundle: TrustBundle,
  published: readonly TokenAuthority[] | undefined,
  ownKeyIds: ReadonlySet<string>,
  nowSeconds: number,
): TrustBundle {
  if (!published) return bundle;
  const isForeign = ({ keyId }: TokenAuthority) => !ownKeyIds.has(keyId);
  const own = bundle.jwtAuthorities.filter((key) => !isForeign(key));
  // A key of this server's that is no longer in its bundle was revoked here; upstream doesn't know.
  const keys = published.filter(isForeign);
  const jwtAuthorities = follow(bundle.jwtAuthorities, [...keys, ...own], ({ keyId }) => keyId);
  return withJwtKeys({ ...bundle, jwtAuthorities }, { trustDomain: bundle.trustDomain, keys, nowSeconds });
}

interface Listed {
  readonly tainted: boolean;
}

/** Taint and its consequence; the same list when there is none. */
function follow<T extends Listed>(
  items: readonly T[],
  upstream: readonly T[],
  idOf: (item: T) => string,
): readonly T[] {
  const listed = new Set(upstream.map(idOf));
  const tainted = new Set(upstream.filter((item) => item.tainted).map(idOf));
  const kept = items
    .filter((item) => !item.tainted || listed.has(idOf(item)))
    .map((item) => (!item.tainted && tainted.has(idOf(item)) ? { ...item, tainted: true } : item));
  return kept.length === items.length && kept.every((item, index) => item === items[index]) ? items : kept;
}

const rootId = ({ der }: X509Authority): string => authorityId(parseCertificate(der));

/** Whether an authority's chain ends at one of the roots, judged as of `atSeconds` (unix time). */
export function leadsTo(
  { der, upstreamChain }: JournalEntry,
  roots: readonly X509Authority[],
  atSeconds: number,
): boolean {
  try {
    const [, ...intermediates] = upstreamChain.map(parseCertificate);
    const options = {
      intermediates,
      roots: roots.map((root) => parseCertificate(root.der)),
      nowSeconds: atSeconds,
    };
    return verifiedChains(parseCertificate(der), options).length > 0;
  } catch {
    return false;
  }
}
