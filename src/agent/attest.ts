/** The agent's side of node attestation and renewal: one conversation with the server each. */
import { SpireError } from "../core/errors.ts";
import type { SpiffeId } from "../core/spiffe-id.ts";
import type { NodeProver } from "../plugins/node-attestors/index.ts";
import type { AgentService, AttestAgentResponse_Result } from "../rpc/gen/spire/api/server/agent/v1/agent.ts";
import type { Client, Conversation } from "../rpc/service.ts";
import { unlessAborted } from "./abort.ts";
import { chainFromMessage, spiffeIdFromMessage } from "./messages.ts";

/** What the server made of an agent. */
export interface Attestation {
  readonly id: SpiffeId;
  /** Leaf first, DER. */
  readonly chain: readonly Uint8Array[];
  /** Whether the same proof may be given again. */
  readonly reattestable: boolean;
}

type AttestConversation =
  ReturnType<Client<AgentService>["attestAgent"]> extends Conversation<infer Request, infer Response>
    ? Conversation<Request, Response>
    : never;

/**
 * Proves what node this is and gets an SVID for the key of `csr` (DER, PKCS #10).
 *
 * @throws SpireError with the server's status when it refuses, INTERNAL when the proof has no answer.
 */
export async function attestAgent(
  agent: Client<AgentService>,
  prover: NodeProver,
  csr: Uint8Array,
  signal: AbortSignal,
): Promise<Attestation> {
  const conversation = agent.attestAgent({ signal });
  const proof = prover.prove(signal);
  try {
    const payload = await nextStep(prover, proof.next());
    const data = { type: prover.name, payload: Buffer.from(payload) };
    const step = { $case: "params", value: { data, params: { csr: Buffer.from(csr) } } } as const;
    await unlessAborted(conversation.send({ step }), signal);
    const result = await answerChallenges(conversation, prover, proof);
    conversation.end();
    return {
      id: spiffeIdFromMessage(result.svid?.id),
      chain: chainFromMessage(result.svid),
      reattestable: result.reattestable,
    };
  } catch (error) {
    conversation.cancel();
    throw error;
  } finally {
    await proof.return();
  }
}

async function answerChallenges(
  conversation: AttestConversation,
  prover: NodeProver,
  proof: ReturnType<NodeProver["prove"]>,
): Promise<AttestAgentResponse_Result> {
  for (;;) {
    const step = (await conversation.receive())?.step;
    if (!step) throw new SpireError("UNAVAILABLE", "server ended the attestation without a result");
    if (step.$case === "result") return step.value;
    const answer = await nextStep(prover, proof.next(step.value));
    await conversation.send({ step: { $case: "challengeResponse", value: Buffer.from(answer) } });
  }
}

async function nextStep(
  prover: NodeProver,
  step: Promise<IteratorResult<Uint8Array, void>>,
): Promise<Uint8Array> {
  const { done, value } = await step;
  if (done || value === undefined) {
    throw new SpireError("INTERNAL", `node attestor "${prover.name}" has no answer to a challenge`);
  }
  return value;
}

/** Gets an SVID for a new key under the identity that the connection shows. @throws SpireError. */
export async function renewAgent(
  agent: Client<AgentService>,
  csr: Uint8Array,
  signal: AbortSignal,
): Promise<readonly Uint8Array[]> {
  const response = await agent.renewAgent(
    { params: { csr: Buffer.from(csr) } },
    { signal, timeoutMs: 30_000 },
  );
  return chainFromMessage(response.svid);
}
