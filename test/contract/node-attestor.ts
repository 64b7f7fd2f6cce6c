/** What every node attestor has to hold: its two halves, joined without a network. */
import { describe, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import { isAgentId, parseTrustDomain, trustDomainOf } from "../../src/core/spiffe-id.ts";
import type {
  NodeIdentity,
  NodeProver,
  NodeVerifier,
  VerifierContext,
} from "../../src/plugins/node-attestors/index.ts";

export interface NodeAttestorUnderTest {
  readonly name: string;
  /** What is special about this one. */
  readonly variant?: string;
  /** A prover whose proof is good, and the verifier that accepts it. */
  create(): Promise<{ prover: NodeProver; verifier: NodeVerifier; context: VerifierContext }>;
}

const trustDomain = parseTrustDomain("example.org");

/** A server's context in which the given tokens are good for one use each. */
export function contextWithTokens(...tokens: string[]): VerifierContext {
  const left = new Set(tokens);
  return {
    trustDomain,
    peerAddress: "127.0.0.1:4000",
    ownBundle: () => ({ x509Authorities: [] }),
    async redeemToken(token) {
      if (!left.delete(token)) throw new SpireError("INVALID_ARGUMENT", "join token does not exist");
    },
  };
}

/** Runs both halves against each other, as an agent and a server would over the wire. */
export async function attestInMemory(
  prover: NodeProver,
  verifier: NodeVerifier,
  context: VerifierContext,
): Promise<NodeIdentity> {
  const proof = prover.prove(new AbortController().signal);
  const answer = async (challenge?: Uint8Array): Promise<Uint8Array> => {
    const step = challenge === undefined ? await proof.next() : await proof.next(challenge);
    if (step.done) throw new Error("the prover has no answer");
    return step.value;
  };
  try {
    return await verifier.verify(await answer(), answer, context);
  } finally {
    await proof.return();
  }
}

export function nodeAttestorContract({ name, variant, create }: NodeAttestorUnderTest): void {
  describe(`node attestor ${name}${variant ? ` (${variant})` : ""} holds the contract`, () => {
    test("both halves have its name", async () => {
      const { prover, verifier } = await create();
      expect([prover.name, verifier.name]).toEqual([name, name]);
    });

    test("a good proof yields an agent ID below the attestor's own path", async () => {
      const { prover, verifier, context } = await create();
      const { agentId } = await attestInMemory(prover, verifier, context);
      expect(isAgentId(agentId)).toBe(true);
      expect(trustDomainOf(agentId)).toBe(trustDomain);
      expect(agentId).toStartWith(`spiffe://${trustDomain}/spire/agent/${name}/`);
    });

    test("the same node gets the same ID whenever it may attest again", async () => {
      const { prover, verifier, context } = await create();
      const first = await attestInMemory(prover, verifier, context);
      if (!first.canReattest) return;
      expect(await attestInMemory(prover, verifier, context)).toEqual(first);
    });

    test("a payload of noise is refused with a SpireError", async () => {
      const { verifier, context } = await create();
      const never = async () => {
        throw new SpireError("INVALID_ARGUMENT", "no answer");
      };
      for (const noise of [
        Uint8Array.of(),
        Uint8Array.of(0xff, 0xfe),
        Buffer.from("{"),
        Buffer.alloc(70_000),
      ]) {
        await expect(verifier.verify(noise, never, context)).rejects.toBeInstanceOf(SpireError);
      }
    });
  });
}
