/** The Workload API's stream messages, encoded once for all streams that hold the same identities. */
import type { Entry } from "../core/entry.ts";
import { type TrustDomain, trustDomainId } from "../core/spiffe-id.ts";
import { concatDer, formatJwks, type TokenAuthority, type TrustBundle } from "../core/trust-bundle.ts";
import {
  JWTBundlesResponse,
  X509BundlesResponse,
  X509SVIDResponse,
} from "../rpc/gen/spiffe/workload/workloadapi.ts";
import { EncodedMessage } from "../rpc/service.ts";
import type { WorkloadSvid } from "./sign-svids.ts";

/** A bundle in the forms that workloads get, made when first needed. */
export interface BundleForms {
  readonly bundle: TrustBundle;
  /** Per form: grows with each change of any bundle, and stays the same as long as the form does. */
  readonly versions: Readonly<Record<BundleForm, number>>;
  der(): Buffer;
  jwks(): Buffer;
}

type BundleForm = "der" | "jwks";

/** @param before the forms of the bundle in its last state: what has not changed keeps its version. */
export function createBundleForms(bundle: TrustBundle, version: number, before?: BundleForms): BundleForms {
  let der: Buffer | undefined;
  let jwks: Buffer | undefined;
  return {
    bundle,
    versions: {
      der: before && hasSameDer(before.bundle, bundle) ? before.versions.der : version,
      jwks: before && hasSameJwks(before.bundle, bundle) ? before.versions.jwks : version,
    },
    der() {
      der ??= Buffer.from(concatDer(bundle));
      return der;
    },
    jwks() {
      jwks ??= Buffer.from(formatJwks(bundle));
      return jwks;
    },
  };
}

const hasSameDer = (a: TrustBundle, b: TrustBundle): boolean =>
  Buffer.compare(concatDer(a), concatDer(b)) === 0;

function hasSameJwks({ jwtAuthorities: a }: TrustBundle, { jwtAuthorities: b }: TrustBundle): boolean {
  const isSame = ({ keyId, publicKey }: TokenAuthority, other: TokenAuthority | undefined) =>
    keyId === other?.keyId && Buffer.compare(publicKey, other.publicKey) === 0;
  return a.length === b.length && a.every((authority, index) => isSame(authority, b[index]));
}

/** The bundles of a message: the own one, then those that the identities federate with. */
export interface MessageBundles {
  readonly own: BundleForms;
  readonly federated: ReadonlyMap<TrustDomain, BundleForms>;
}

/** One identity of a workload. */
export interface IssuedIdentity {
  readonly entry: Entry;
  readonly svid: WorkloadSvid;
}

/** In the order given; the first is the default identity. */
export function encodeX509Svids(
  identities: readonly IssuedIdentity[],
  { own, federated }: MessageBundles,
): EncodedMessage {
  const response: X509SVIDResponse = {
    svids: identities.map(({ entry, svid }) => ({
      spiffeId: entry.spiffeId,
      x509Svid: Buffer.from(svid.chain),
      x509SvidKey: Buffer.from(svid.key),
      bundle: own.der(),
      hint: entry.hint,
    })),
    crl: [],
    federatedBundles: collect(federated.values(), (forms) => forms.der()),
  };
  return new EncodedMessage(X509SVIDResponse.encode(response).finish());
}

export function encodeX509Bundles(bundles: MessageBundles): EncodedMessage {
  const response = { crl: [], bundles: collect(all(bundles), (forms) => forms.der()) };
  return new EncodedMessage(X509BundlesResponse.encode(response).finish());
}

export function encodeJwtBundles(bundles: MessageBundles): EncodedMessage {
  const response = { bundles: collect(all(bundles), (forms) => forms.jwks()) };
  return new EncodedMessage(JWTBundlesResponse.encode(response).finish());
}

const all = ({ own, federated }: MessageBundles): readonly BundleForms[] => [own, ...federated.values()];

function collect(
  bundles: Iterable<BundleForms>,
  form: (forms: BundleForms) => Buffer,
): Record<string, Buffer> {
  return Object.fromEntries([...bundles].map((it) => [trustDomainId(it.bundle.trustDomain), form(it)]));
}
