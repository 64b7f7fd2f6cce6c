/** JWT-SVIDs that were issued before and still have half of their life left. */
import { type Clock, sleep, unixSeconds } from "../core/clock.ts";
import type { Entry } from "../core/entry.ts";
import { SpireError } from "../core/errors.ts";
import { decodeJwtSvid } from "../core/jwt-svid.ts";
import type { Logger } from "../core/log.ts";
import type { TrustBundle } from "../core/trust-bundle.ts";
import type { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Client } from "../rpc/service.ts";
import { isPassing } from "./identity.ts";

export interface JwtCache {
  /**
   * A token for the entry's SPIFFE ID and the audience. Callers who ask for the same at the same time share one
   * call to the server.
   *
   * @throws SpireError with the server's status, unless a cached token can stand in.
   */
  fetch(entry: Entry, audience: readonly string[]): Promise<string>;
  /** Drops tokens that were signed with keys that are tainted now. */
  applyBundle(bundle: TrustBundle): void;
}

interface CachedToken {
  readonly token: string;
  readonly keyId: unknown;
  /** Unix seconds. */
  readonly renewAt: number;
  readonly expiresAt: number;
}

export interface JwtCacheOptions {
  readonly client: () => Client<SVIDService>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly maxTokens: number;
}

/** How long the server is tried: without a token at hand, and with one that still holds. */
const missTimeoutMs = 30_000;
const hitTimeoutMs = 5_000;
const retryMs = 1_000;

export function createJwtCache({ client, clock, log, maxTokens }: JwtCacheOptions): JwtCache {
  /** By last use, oldest first. */
  const tokens = new Map<string, CachedToken>();
  const underWay = new Map<string, Promise<CachedToken>>();

  async function request(entry: Entry, audience: readonly string[], timeoutMs: number): Promise<CachedToken> {
    const { svid } = await client().newJwtsvid({ entryId: entry.id, audience: [...audience] }, { timeoutMs });
    if (!svid) throw new SpireError("INTERNAL", "server sent no JWT-SVID");
    const { header, claims } = decodeJwtSvid(svid.token);
    // An entry that changed at the server since the last sync must not give its new ID to the old workloads.
    if (claims["sub"] !== entry.spiffeId) {
      throw new SpireError("INTERNAL", "server sent a JWT-SVID of another SPIFFE ID");
    }
    const keyId = header["kid"];
    const renewAt = svid.issuedAt + (svid.expiresAt - svid.issuedAt) / 2;
    return { token: svid.token, keyId, renewAt, expiresAt: svid.expiresAt };
  }

  /** Tries again what may pass, until the time is over. */
  async function requestPatiently(
    entry: Entry,
    audience: readonly string[],
    timeoutMs: number,
  ): Promise<CachedToken> {
    const end = clock.now() + timeoutMs;
    for (;;) {
      try {
        return await request(entry, audience, Math.max(1, end - clock.now()));
      } catch (error) {
        if (!isPassing(error) || clock.now() + retryMs >= end) throw error;
        log.debug("Failed to fetch JWT SVID; retrying", { spiffe_id: entry.spiffeId, error });
        await sleep(clock, retryMs);
      }
    }
  }

  function store(key: string, token: CachedToken): void {
    tokens.delete(key);
    tokens.set(key, token);
    const oldest = tokens.keys().next();
    if (tokens.size > maxTokens && !oldest.done) tokens.delete(oldest.value);
  }

  function fetchShared(
    key: string,
    entry: Entry,
    audience: readonly string[],
    timeoutMs: number,
  ): Promise<CachedToken> {
    const running = underWay.get(key);
    if (running) return running;
    const started = requestPatiently(entry, audience, timeoutMs)
      .then((token) => {
        store(key, token);
        return token;
      })
      .finally(() => underWay.delete(key));
    underWay.set(key, started);
    return started;
  }

  return {
    async fetch(entry, audience) {
      // A token with an ID of its own is never given out twice.
      if (entry.jwtSvidIncludeJti) return (await requestPatiently(entry, audience, missTimeoutMs)).token;
      const key = JSON.stringify([entry.spiffeId, ...[...new Set(audience)].sort()]);
      const now = unixSeconds(clock);
      const cached = tokens.get(key);
      const usable = cached && now < cached.expiresAt ? cached : undefined;
      if (usable && now < usable.renewAt) {
        store(key, usable);
        return usable.token;
      }
      try {
        return (await fetchShared(key, entry, audience, usable ? hitTimeoutMs : missTimeoutMs)).token;
      } catch (error) {
        if (!usable || !isPassing(error)) throw error;
        log.warn("Failed to renew JWT SVID; the cached one is given out", {
          spiffe_id: entry.spiffeId,
          error,
        });
        return usable.token;
      }
    },
    applyBundle(bundle) {
      const tainted = new Set<unknown>(
        bundle.jwtAuthorities.filter((authority) => authority.tainted).map(({ keyId }) => keyId),
      );
      for (const [key, { keyId }] of tokens) if (tainted.has(keyId)) tokens.delete(key);
    },
  };
}
