/** Makes what an agent proves itself by, of its settings. */
import { createLastingProofs, createTokenProofs, type NodeProofs } from "../agent/proofs.ts";
import type { AgentAttestorConfig } from "../config/agent.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { createJoinTokenProver } from "../plugins/node-attestors/join-token.ts";

export interface ProofSettings {
  readonly nodeAttestor: AgentAttestorConfig;
  /** See `AgentSettings`. */
  readonly joinToken?: string | (() => Promise<string>);
}

/** @throws SpireError FAILED_PRECONDITION for a certificate or key that can't be used. */
export async function openNodeProofs(
  { nodeAttestor, joinToken }: ProofSettings,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
): Promise<NodeProofs> {
  if (nodeAttestor.type === "join_token") {
    return createTokenProofs(joinToken, (token) => createJoinTokenProver({ token }));
  }
  const { createX509popProver, readCredential } = await import("../plugins/node-attestors/x509pop/prove.ts");
  if (nodeAttestor.source === "files") {
    // What is missing at the start would be missing at the first attestation: better said at once.
    await readCredential(nodeAttestor);
    return createLastingProofs(createX509popProver(() => readCredential(nodeAttestor)));
  }
  const { socketPath } = nodeAttestor;
  const { createWorkloadIdentity } = await import("../rpc/workload-identity.ts");
  return createLastingProofs(
    createX509popProver(async () => {
      const identity = createWorkloadIdentity({ socketPath, clock, log });
      try {
        return await identity.svid();
      } finally {
        await identity.close();
      }
    }),
  );
}
