/** How an agent proves what node it runs on, and how a server checks it: the contract of both halves. */
import type { Selector } from "../../core/selector.ts";
import type { SpiffeId, TrustDomain } from "../../core/spiffe-id.ts";
import type { TrustBundle } from "../../core/trust-bundle.ts";

/** What a proven node is. */
export interface NodeIdentity {
  readonly agentId: SpiffeId;
  readonly selectors: readonly Selector[];
  /** Whether the same node may attest again with the same evidence. */
  readonly canReattest: boolean;
}

/** The agent's half. */
export interface NodeProver {
  readonly name: string;
  /**
   * Yields the payload first, then one answer for each challenge that `next(challenge)` hands in.
   * The first `next()` has no challenge.
   */
  prove(signal: AbortSignal): AsyncGenerator<Uint8Array, void, Uint8Array>;
}

/** What the server's half may use of the server. */
export interface VerifierContext {
  readonly trustDomain: TrustDomain;
  /**
   * Uses up a join token. @throws SpireError INVALID_ARGUMENT when it is unknown, used or expired.
   * Called once the rest of the request is known to be good.
   */
  redeemToken(token: string): Promise<void>;
  /** Address of the agent's connection: `host:port`, or the path of a Unix socket. */
  readonly peerAddress: string;
  /** The trust domain's bundle as it stands. */
  ownBundle(): Pick<TrustBundle, "x509Authorities">;
}

/** The server's half. */
export interface NodeVerifier {
  readonly name: string;
  /** `ask` sends a challenge and resolves to the agent's answer. @throws SpireError when the proof fails. */
  verify(
    payload: Uint8Array,
    ask: (challenge: Uint8Array) => Promise<Uint8Array>,
    context: VerifierContext,
  ): Promise<NodeIdentity>;
}
