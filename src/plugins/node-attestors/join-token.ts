/** Node attestation by a join token: whoever holds the token is the node, once. */
import { invalidArgument } from "../../core/errors.ts";
import { agentId, type SpiffeId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { NodeProver, NodeVerifier } from "./index.ts";

const name = "join_token";

/** The agent's half: the payload is the token itself (UTF-8), and there is no challenge. */
export function createJoinTokenProver({ token }: { readonly token: string }): NodeProver {
  return {
    name,
    async *prove() {
      yield new TextEncoder().encode(token);
    },
  };
}

/**
 * The server's half: uses the token up and names the agent `/spire/agent/join_token/<token>`, or by what `nameOf`
 * gives in the token's place. The token can't be shown twice, so such a node renews instead of attesting again.
 *
 * @throws SpireError INVALID_ARGUMENT for a payload that can be no token, and for what `redeemToken` refuses.
 */
export function createJoinTokenVerifier(
  nameOf: (token: string) => string | undefined = () => undefined,
): NodeVerifier {
  return {
    name,
    async verify(payload, _ask, context) {
      const token = decodeToken(payload);
      const id = agentIdOf(context.trustDomain, nameOf(token) ?? token);
      await context.redeemToken(token);
      return { agentId: id, selectors: [], canReattest: false };
    },
  };
}

/** No server ever made such a token. */
const unknownToken = (cause: unknown) =>
  invalidArgument("failed to attest: join token does not exist or has already been used", cause);

function decodeToken(payload: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
  } catch (cause) {
    throw unknownToken(cause);
  }
}

function agentIdOf(trustDomain: TrustDomain, name: string): SpiffeId {
  try {
    return agentId(trustDomain, `/join_token/${name}`);
  } catch (cause) {
    throw unknownToken(cause);
  }
}
