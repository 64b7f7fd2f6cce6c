/** What an agent has to attest with: a join token that counts once, a source of new ones, or a proof that lasts. */
import type { NodeProver } from "../plugins/node-attestors/index.ts";

export interface NodeProofs {
  /** Whether `next` would give a prover. */
  available(): boolean;
  next(): Promise<NodeProver | undefined>;
  /** The prover that `next` gave was judged by the server, for or against: a proof that counts once is used up. */
  spent(): void;
}

/** `token` as a text counts once; as a function it is asked for a new one for each attestation. */
export function createTokenProofs(
  token: string | (() => Promise<string>) | undefined,
  createProver: (token: string) => NodeProver,
): NodeProofs {
  if (typeof token === "function") {
    return { available: () => true, next: async () => createProver(await token()), spent() {} };
  }
  let left = token;
  return {
    available: () => left !== undefined,
    next: async () => (left === undefined ? undefined : createProver(left)),
    spent() {
      left = undefined;
    },
  };
}

/** A prover that may be used again and again, such as that of a certificate. */
export const createLastingProofs = (prover: NodeProver): NodeProofs => ({
  available: () => true,
  next: async () => prover,
  spent() {},
});
