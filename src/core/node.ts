/** Attested nodes: the agents that a server knows. */
import type { Selector } from "./selector.ts";
import type { SpiffeId } from "./spiffe-id.ts";

export interface AttestedNode {
  readonly id: SpiffeId;
  readonly attestationType: string;
  /** Decimal serial number of the SVID in force; empty = banned. */
  readonly serialNumber: string;
  /** Unix seconds. */
  readonly expiresAt: number;
  /** Serial of a renewed SVID that was not used yet; empty = none. */
  readonly newSerialNumber: string;
  /** Unix seconds; 0 with an empty `newSerialNumber`. */
  readonly newExpiresAt: number;
  readonly canReattest: boolean;
  readonly agentVersion: string;
  readonly selectors: readonly Selector[];
}

export const isBanned = (node: AttestedNode): boolean => node.serialNumber === "";
