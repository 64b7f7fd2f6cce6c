/** What the peers of the interoperability tests print about their SVIDs. */

export interface X509Svid {
  readonly id: string;
  /** Decimal. */
  readonly serial: string;
  /** Leaf first; DER in base64. */
  readonly chain: readonly string[];
  readonly bundle: readonly string[];
}

export interface JwtSvid {
  readonly id: string;
  readonly token: string;
  readonly audience: readonly string[];
  /** The IDs that the Workload API and the bundle's keys found in the token. */
  readonly validated_by: { readonly api: string; readonly bundle: string };
}
