/** This server below an upstream authority: has its CAs signed there, publishes its keys there, takes up the roots. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, type SigningKey } from "../core/keys.ts";
import type { Logger } from "../core/log.ts";
import { makeSpiffeId, type TrustDomain, trustDomainId } from "../core/spiffe-id.ts";
import type { TokenAuthority, X509Authority } from "../core/trust-bundle.ts";
import { type Certificate, parseCertificate } from "../core/x509/certificate.ts";
import { createCertificateRequest } from "../core/x509/csr.ts";
import { keyUsages } from "../core/x509/extensions.ts";
import {
  type CaSubjectParts,
  createIssuer,
  issueWorkloadSvid,
  requestedCaSubject,
} from "../core/x509/issue.ts";
import { verifySvidChain } from "../core/x509/verify.ts";
import type { UpstreamAuthority } from "../plugins/upstream-authorities/index.ts";
import type { JournalEntry } from "./journal.ts";
import type { Registry } from "./registry.ts";
import { withJwtKeys, withRoots } from "./upstream-bundle.ts";

export interface Upstream {
  /**
   * Has a CA signed and takes the roots into the bundle.
   * @returns the CA's certificate first, then what leads to a root, without the root; DER.
   * @throws SpireError when it can't be had, or what came can't sign SVIDs that hold.
   */
  mintCa(key: SigningKey, ttlSeconds: number): Promise<readonly Uint8Array[]>;
  /**
   * Publishes a key upstream and takes all keys that are published there into the bundle. Where the upstream
   * publishes none, it does nothing: the key stays this server's.
   */
  publishJwtKey(key: TokenAuthority): Promise<void>;
}

export interface UpstreamOptions {
  /** The plugin's name. */
  readonly name: string;
  readonly plugin: UpstreamAuthority;
  readonly trustDomain: TrustDomain;
  readonly registry: Registry;
  readonly subject?: CaSubjectParts;
  readonly clock: Clock;
  readonly log: Logger;
}

const publishTimeoutMs = 5_000;

export function createUpstream(options: UpstreamOptions): Upstream {
  const { name, plugin, trustDomain, registry, subject, clock, log } = options;
  let isWarned = false;

  /** Issue SPIRE's warning once. */
  function warnOfOwnKeys(): void {
    if (isWarned) return;
    isWarned = true;
    log.warn(
      "UpstreamAuthority plugin does not support JWT-SVIDs. Workloads managed by this server may have trouble " +
        "communicating with workloads outside this cluster when using JWT-SVIDs.",
      { plugin_name: name },
    );
  }

  const about = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      throw SpireError.from(error).within(`upstream authority "${name}"`);
    });

  async function mint(key: SigningKey, ttlSeconds: number): Promise<readonly Uint8Array[]> {
    const csr = await createCertificateRequest({
      key,
      uri: trustDomainId(trustDomain),
      subjectDer: requestedCaSubject(subject),
    });
    const { chain, roots } = await plugin.mint(csr, ttlSeconds);
    const path = withoutRoots(chain, roots);
    await requireUsable(path, key, { roots, trustDomain, nowSeconds: unixSeconds(clock) });
    const addition = { trustDomain, roots, nowSeconds: unixSeconds(clock) };
    await registry.mutateBundle(
      trustDomain,
      (bundle) => withRoots(bundle, addition),
      "X.509 CA signed upstream",
    );
    return path;
  }

  async function publish(key: TokenAuthority): Promise<readonly TokenAuthority[] | undefined> {
    if (!plugin.publishJwtKey) return undefined;
    const deadline = new AbortController();
    const late = new SpireError("DEADLINE_EXCEEDED", "publishing the JWT key did not end in time");
    const expired = new Promise<never>((_, reject) => {
      deadline.signal.addEventListener("abort", () => reject(late), { once: true });
    });
    const cancel = clock.after(publishTimeoutMs, () => deadline.abort());
    try {
      return await Promise.race([plugin.publishJwtKey(key, deadline.signal), expired]);
    } catch (error) {
      if (SpireError.from(error).code === "UNIMPLEMENTED") return undefined;
      throw error;
    } finally {
      cancel();
    }
  }

  return {
    mintCa: (key, ttlSeconds) => about(mint(key, ttlSeconds)),
    async publishJwtKey(key) {
      const keys = await about(publish(key));
      if (!keys) return warnOfOwnKeys();
      const addition = { trustDomain, keys, nowSeconds: unixSeconds(clock) };
      await registry.mutateBundle(
        trustDomain,
        (bundle) => withJwtKeys(bundle, addition),
        "JWT authority published upstream",
      );
    },
  };
}

/** Lowercase hex of the subject key identifier of what signed an authority; empty for one that signed itself. */
export function upstreamAuthorityId({ der, upstreamChain }: JournalEntry): string {
  const [keyId] = upstreamChain.length > 0 ? [parseCertificate(der).authorityKeyId] : [];
  return keyId ? Buffer.from(keyId).toString("hex") : "";
}

/** A chain is sent without its root: who trusts that has it. */
function withoutRoots(chain: readonly Uint8Array[], roots: readonly X509Authority[]): readonly Uint8Array[] {
  const isRoot = (der: Uint8Array) =>
    roots.some((root) => sameBytes(root.der, der)) && isSelfIssued(parseCertificate(der));
  const [ca, ...others] = chain;
  return ca ? [ca, ...others.filter((der) => !isRoot(der))] : [];
}

const isSelfIssued = ({ subjectDer, issuerDer }: Certificate): boolean => sameBytes(subjectDer, issuerDer);

interface Terms {
  readonly roots: readonly X509Authority[];
  readonly trustDomain: TrustDomain;
  readonly nowSeconds: number;
}

/** @throws SpireError FAILED_PRECONDITION unless an SVID that the CA signs holds for everybody who has the roots. */
async function requireUsable(chain: readonly Uint8Array[], key: SigningKey, terms: Terms): Promise<void> {
  const { roots, trustDomain, nowSeconds } = terms;
  const publicKeyInfo = exportPublicKeyInfo(key.publicKey);
  try {
    const [der] = chain;
    if (!der) throw new SpireError("INTERNAL", "there is no certificate");
    checkCa(parseCertificate(der), publicKeyInfo, trustDomain);
    const issuer = createIssuer(key, der, chain);
    const spiffeId = makeSpiffeId(trustDomain, "/spire/throwaway");
    const request = { spiffeId, publicKeyInfo, ttlSeconds: 1, dnsNames: [] };
    const svid = await issueWorkloadSvid(issuer, request, nowSeconds);
    verifySvidChain([svid.der, ...chain], { x509Authorities: roots, trustDomain }, nowSeconds);
  } catch (error) {
    const reason = SpireError.from(error).message;
    const message = `X509 CA minted by upstream authority is invalid: ${reason}`;
    throw new SpireError("FAILED_PRECONDITION", message, { cause: error });
  }
}

/** As SPIRE judges them. @throws SpireError FAILED_PRECONDITION. */
function checkCa(ca: Certificate, publicKeyInfo: Uint8Array, trustDomain: TrustDomain): void {
  const refuse = (reason: string) => new SpireError("FAILED_PRECONDITION", reason);
  if (!sameBytes(ca.publicKeyInfo, publicKeyInfo)) throw refuse("it is not for the key that was sent");
  if (!ca.isCa) throw refuse("cA constraint is not set");
  if (!((ca.keyUsage ?? 0) & keyUsages.keyCertSign)) throw refuse("keyCertSign key usage must be set");
  const [uri, ...more] = ca.uris;
  if (uri === undefined) return;
  const expected = trustDomainId(trustDomain);
  if (more.length > 0 || uri !== expected) {
    throw refuse(`expected URI SAN "${expected}" but got "${ca.uris.join('", "')}"`);
  }
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
