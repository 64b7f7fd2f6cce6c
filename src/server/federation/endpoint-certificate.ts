/** What a bundle endpoint shows its clients: the server's SVID, files of the operator, or a certificate by ACME. */
import type { SecureContextOptions } from "node:tls";
import { pemOf } from "../../rpc/tls.ts";
import type { ServerIdentity } from "../identity.ts";

/** Certificate chain, leaf first, and its private key, PEM. */
export type PemPair = Required<Pick<SecureContextOptions, "cert" | "key">>;

export interface EndpointCertificate {
  /** Undefined as long as there is none: connections are then closed. */
  current(): PemPair | undefined;
  /** Called after each change. Returns the function that ends the listening. */
  onChange(listener: () => void): () => void;
  /** What answers who validates the endpoint's domain name (RFC 8737); undefined when nobody does. */
  readonly challenge?: () => PemPair | undefined;
  /** Begins to look for newer ones; called once the endpoint can be reached. */
  start(): void;
  stop(): Promise<void>;
}

/** Profile https_spiffe. */
export const svidCertificate = (
  identity: Pick<ServerIdentity, "current" | "onChange">,
): EndpointCertificate => ({
  current: () => pemOf(identity.current()),
  onChange: (listener) => identity.onChange(listener),
  start() {},
  stop: async () => {},
});

/** A pair that changes, and those who follow it. */
export interface ChangingPair {
  readonly current: () => PemPair | undefined;
  readonly onChange: (listener: () => void) => () => void;
  change(to: PemPair): void;
}

export function createChangingPair(first?: PemPair): ChangingPair {
  const listeners = new Set<() => void>();
  let pair = first;
  return {
    current: () => pair,
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    change(to) {
      pair = to;
      for (const listener of listeners) listener();
    },
  };
}
