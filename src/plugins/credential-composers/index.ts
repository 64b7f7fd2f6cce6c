/** The contract of credential composers: they have a say in what credentials hold, one after the other. */
import type { SpiffeId } from "../../core/spiffe-id.ts";
import type { Name } from "../../core/x509/name.ts";

/** What of an X.509-SVID may be changed. */
export interface X509SvidAttributes {
  readonly subject: Name;
  readonly dnsNames: readonly string[];
}

/** Each method gets what the composer before it made of the credential. */
export interface CredentialComposer {
  /** X.509-SVIDs of workloads, minted ones too. */
  composeWorkloadX509Svid?(
    spiffeId: SpiffeId,
    attributes: X509SvidAttributes,
  ): X509SvidAttributes | Promise<X509SvidAttributes>;
}
