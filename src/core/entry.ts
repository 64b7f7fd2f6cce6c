/** Registration entries: which workload gets which SPIFFE ID, and with what in its SVIDs. */
import type { Selector } from "./selector.ts";
import type { SpiffeId, TrustDomain } from "./spiffe-id.ts";

export interface Entry {
  /** Unique; given by the caller or a new UUID. */
  readonly id: string;
  readonly spiffeId: SpiffeId;
  /** The agent, node alias or (for a node alias itself) server that it belongs to. */
  readonly parentId: SpiffeId;
  /** Unique, in the order given, at least one. */
  readonly selectors: readonly Selector[];
  /** Seconds; 0 = the server's default. */
  readonly x509SvidTtl: number;
  /** Seconds; 0 = the server's default. */
  readonly jwtSvidTtl: number;
  readonly federatesWith: readonly TrustDomain[];
  readonly admin: boolean;
  readonly downstream: boolean;
  /** Unix seconds; 0 = never. */
  readonly expiresAt: number;
  /** In the order given; the first becomes the common name. */
  readonly dnsNames: readonly string[];
  /** 0 at creation, one more with each update. */
  readonly revisionNumber: number;
  readonly storeSvid: boolean;
  readonly hint: string;
  /** Unix seconds. */
  readonly createdAt: number;
  readonly disableX509SvidPrefetch: boolean;
  readonly jwtSvidIncludeJti: boolean;
}

/** Fields that a caller sets. An empty `id` asks for a new UUID. */
export type EntryDraft = Omit<Entry, "revisionNumber" | "createdAt">;

/** What an entry can't do without. */
type EntryEssentials = Pick<EntryDraft, "spiffeId" | "parentId" | "selectors">;

/** A draft with every other field at its default. */
export const draftEntry = (fields: EntryEssentials & Partial<EntryDraft>): EntryDraft => ({
  id: "",
  x509SvidTtl: 0,
  jwtSvidTtl: 0,
  federatesWith: [],
  admin: false,
  downstream: false,
  expiresAt: 0,
  dnsNames: [],
  storeSvid: false,
  hint: "",
  disableX509SvidPrefetch: false,
  jwtSvidIncludeJti: false,
  ...fields,
});
