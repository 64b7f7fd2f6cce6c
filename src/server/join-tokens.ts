/** Join tokens: one use, expiring, and the entry that gives the agent behind one a further SPIFFE ID. */
import { randomUUID } from "node:crypto";
import { type Clock, unixSeconds } from "../core/clock.ts";
import { draftEntry, type EntryDraft } from "../core/entry.ts";
import { invalidArgument, SpireError } from "../core/errors.ts";
import { agentId as makeAgentId, type SpiffeId, type TrustDomain } from "../core/spiffe-id.ts";
import type { JoinToken, Store } from "../plugins/datastores/index.ts";
import { requireWorkload } from "./entry-rules.ts";

export interface JoinTokenRequest {
  /** A UUID is made when it is missing or empty. */
  readonly token?: string;
  /** Seconds, at least 1. */
  readonly ttlSeconds: number;
  /** SPIFFE ID that the agent attested by this token gets as well, through an entry of its own. */
  readonly agentId?: SpiffeId;
}

export interface JoinTokens {
  create(request: JoinTokenRequest): Promise<JoinToken>;
  redeem(token: string): Promise<void>;
}

/** What the store offers inside a transaction and outside alike. */
type Groups = Omit<Store, "transaction" | "close">;

export function createJoinTokens(store: Store, trustDomain: TrustDomain, clock: Clock): JoinTokens {
  return {
    async create({ token: given, ttlSeconds, agentId }) {
      if (!(ttlSeconds >= 1)) throw invalidArgument("ttl is required, you must provide one");
      if (agentId !== undefined) checkAgentId(agentId, trustDomain);
      const now = unixSeconds(clock);
      const joinToken = { token: given || randomUUID(), expiresAt: now + ttlSeconds };
      const owner = agentIdOf(joinToken.token, trustDomain);
      try {
        await store.transaction(async (groups) => {
          await groups.joinTokens.create(joinToken);
          if (agentId !== undefined) await createAlias(groups, owner, agentId, now);
        });
      } catch (error) {
        throw new SpireError("INTERNAL", `failed to create token: ${SpireError.from(error).message}`, {
          cause: error,
        });
      }
      return joinToken;
    },

    async redeem(token) {
      const taken = await store.joinTokens.take(token);
      if (!taken) {
        throw invalidArgument("failed to attest: join token does not exist or has already been used");
      }
      if (taken.expiresAt * 1000 < clock.now()) throw invalidArgument("join token expired");
    },
  };
}

/** Deletes the entry that a join token made for its agent. */
export async function deleteAlias(groups: Groups, owner: SpiffeId): Promise<void> {
  const selectors = [{ type: "spiffe_id", value: owner }];
  const { items } = await groups.entries.list(
    { parentId: owner, selectors: { selectors, match: "exact" } },
    { size: 0, token: "" },
  );
  if (items.length > 0) await groups.entries.delete(items.map(({ id }) => id));
}

async function createAlias(groups: Groups, owner: SpiffeId, spiffeId: SpiffeId, now: number): Promise<void> {
  const [outcome] = await groups.entries.create([aliasOf(owner, spiffeId)], now);
  if (outcome && "error" in outcome) throw outcome.error;
}

const aliasOf = (owner: SpiffeId, spiffeId: SpiffeId): EntryDraft =>
  draftEntry({ spiffeId, parentId: owner, selectors: [{ type: "spiffe_id", value: owner }] });

function checkAgentId(agentId: SpiffeId, trustDomain: TrustDomain): void {
  try {
    requireWorkload(agentId, trustDomain);
  } catch (error) {
    throw SpireError.from(error).within("invalid agent ID");
  }
}

/** The token becomes a path segment of its agent's ID; one that can't would never attest. The text stays out of the message. */
function agentIdOf(token: string, trustDomain: TrustDomain): SpiffeId {
  try {
    if (token.includes("/")) throw invalidArgument("it has a slash");
    return makeAgentId(trustDomain, `/join_token/${token}`);
  } catch (error) {
    throw SpireError.from(error).within("invalid join token");
  }
}
