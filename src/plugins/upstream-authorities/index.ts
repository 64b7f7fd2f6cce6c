/** The contract of upstream authorities: who signs the CAs of servers, and vouches for them in the trust bundle. */
import type { TokenAuthority, X509Authority } from "../../core/trust-bundle.ts";

/** A CA certificate with what vouches for it. */
export interface MintedCa {
  /** The new CA first, then the certificates that lead to a root; DER. */
  readonly chain: readonly Uint8Array[];
  /** All roots of the upstream authority, not only the one at the end of this chain. */
  readonly roots: readonly X509Authority[];
}

/** What the upstream authority publishes; always all of it. */
export interface UpstreamBundle {
  readonly x509Authorities: readonly X509Authority[];
  /** Undefined: none are published here, which is something else than an empty list. */
  readonly jwtAuthorities?: readonly TokenAuthority[];
}

export interface UpstreamAuthority {
  /**
   * Signs a CA for this server. Everything that differs from what the CSR asks for is the authority's to say.
   * @param csr DER, PKCS #10: subject, the trust domain's SPIFFE ID as URI name, public key.
   * @param preferredTtlSeconds what the lifetime should be; a shorter one is fine.
   * @throws SpireError when it can't be had now; the caller tries again later.
   */
  mint(csr: Uint8Array, preferredTtlSeconds: number): Promise<MintedCa>;
  /**
   * Publishes a key that signs JWT-SVIDs to everybody below the authority; returns all keys that are published.
   * Left out, or UNIMPLEMENTED: the authority publishes none, and the key stays this server's alone.
   */
  publishJwtKey?(key: TokenAuthority, signal: AbortSignal): Promise<readonly TokenAuthority[]>;
  /**
   * The bundle now, then after each change, until `signal` is aborted. Left out: changes show at the next `mint` alone.
   * @throws SpireError (from the iteration) when it can't be had now; the caller begins anew.
   */
  updates?(signal: AbortSignal): AsyncIterable<UpstreamBundle>;
  close(): Promise<void>;
}
