/** The dev agent's lasting ID, and the join tokens that it attests by. */
import { randomUUID } from "node:crypto";
import { isBanned } from "../../core/node.ts";
import { agentId, parseSpiffeId, pathOf, type SpiffeId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { Registry } from "../../server/registry.ts";

/**
 * Seconds. The agent redeems it within milliseconds, but the clock may step meanwhile; one that was left unused is
 * taken back, and nobody else has seen it.
 */
const joinTokenTtl = 7 * 86_400;
const joinTokenPath = "/spire/agent/join_token/";

/**
 * The ID that the agent has or will get. It stays the same when the agent must attest anew, so that entries which
 * name it as their parent go on working. A banned agent stays banned: then there is a new one.
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

/** The join tokens by which the dev agent attests, under the ID that it keeps. */
export interface AgentTokens {
  /** Makes a token, for one use, by which whoever shows it becomes the agent `id`. */
  create(id: SpiffeId, registry: Registry): Promise<string>;
  /** The last part of the ID that goes with a token of `create`; undefined for any other token. */
  nameOf(token: string): string | undefined;
}

/**
 * A join token's agent is called after the token. One that comes back under the same ID needs another token, for the
 * ID is no secret: others on this machine could be faster.
 */
export function createAgentTokens(): AgentTokens {
  let latest: { readonly token: string; readonly name: string } | undefined;
  return {
    async create(id, registry) {
      // One that was left unused.
      if (latest) await registry.redeemJoinToken(latest.token).catch(() => {});
      const { token } = await registry.createJoinToken({ ttlSeconds: joinTokenTtl });
      latest = { token, name: pathOf(id).slice(joinTokenPath.length) };
      return token;
    },
    nameOf: (token) => (latest?.token === token ? latest.name : undefined),
  };
}
