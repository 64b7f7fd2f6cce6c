/** The dev agent's lasting ID, and the join tokens that it attests by. */
import { randomUUID } from "node:crypto";
import { isBanned } from "../../core/node.ts";
import { agentId, parseSpiffeId, pathOf, type SpiffeId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { Registry } from "../../server/registry.ts";

/** Seconds; the agent redeems it within milliseconds. */
const joinTokenTtl = 60;
const joinTokenPath = "/spire/agent/join_token/";

/**
 * The ID that the agent has or will get. A join token's agent is called after the token, so a later token of the
 * same value gives the same agent: entries that name it as their parent go on working when it must attest anew.
 * A banned agent stays banned: then there is a new one.
 */
export async function chooseAgentId(
  registry: Registry,
  trustDomain: TrustDomain,
  earlier: string,
): Promise<SpiffeId> {
  if (earlier.includes(joinTokenPath)) {
    const id = parseSpiffeId(earlier);
    const node = await registry.getNode(id);
    if (!node || !isBanned(node)) return id;
  }
  return agentId(trustDomain, `/join_token/${randomUUID()}`);
}

/** A token that makes who attests by it the agent `id`; takes the place of one that was left unused. */
export async function createTokenFor(id: SpiffeId, registry: Registry): Promise<string> {
  const token = pathOf(id).slice(joinTokenPath.length);
  await registry.redeemJoinToken(token).catch(() => {});
  await registry.createJoinToken({ token, ttlSeconds: joinTokenTtl });
  return token;
}
