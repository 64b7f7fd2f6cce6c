import { describe, expect, test } from "bun:test";
import { plainEntry } from "../../test/fakes/spire-server.ts";
import { createManualClock, unixSeconds } from "../core/clock.ts";
import type { Entry } from "../core/entry.ts";
import { SpireError } from "../core/errors.ts";
import { nullLogger } from "../core/log.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import type { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Client } from "../rpc/service.ts";
import { createJwtCache } from "./jwt-cache.ts";

const ttl = 300;
const entry: Entry = plainEntry("web", 0);

function newCache(maxTokens = 10) {
  const clock = createManualClock(1_000_000_000);
  const requests: string[] = [];
  const server: { failure?: SpireError; keyId: string } = { keyId: "k1" };
  /** Only the one method that the cache calls. */
  const client = {
    async newJwtsvid({ entryId, audience }: { entryId: string; audience: string[] }) {
      requests.push(`${entryId} ${audience.join()}`);
      if (server.failure) throw server.failure;
      const issuedAt = unixSeconds(clock);
      const header = Buffer.from(JSON.stringify({ alg: "ES256", kid: server.keyId })).toString("base64url");
      const claims = Buffer.from(JSON.stringify({ sub: entry.spiffeId, n: requests.length })).toString(
        "base64url",
      );
      return {
        svid: {
          token: `${header}.${claims}.c2ln`,
          id: undefined,
          issuedAt,
          expiresAt: issuedAt + ttl,
          hint: "",
        },
      };
    },
  } as unknown as Client<SVIDService>;
  const cache = createJwtCache({ client: () => client, clock, log: nullLogger, maxTokens });
  return { cache, clock, requests, server };
}

describe("the JWT-SVID cache", () => {
  test("asks the server once for an ID and an audience in any order", async () => {
    const { cache, requests } = newCache();
    const token = await cache.fetch(entry, ["a", "b"]);
    expect(await cache.fetch(entry, ["b", "a"])).toBe(token);
    expect(await cache.fetch(entry, ["a"])).not.toBe(token);
    expect(requests).toEqual(["web a,b", "web a"]);
  });

  test("shares one call among those who ask at the same time", async () => {
    const { cache, requests } = newCache();
    const tokens = await Promise.all(Array.from({ length: 50 }, () => cache.fetch(entry, ["a"])));
    expect(new Set(tokens).size).toBe(1);
    expect(requests.length).toBe(1);
  });

  test("asks anew after half of a token's life", async () => {
    const { cache, requests, clock } = newCache();
    await cache.fetch(entry, ["a"]);
    await clock.advance((ttl / 2 - 1) * 1000);
    await cache.fetch(entry, ["a"]);
    expect(requests.length).toBe(1);
    await clock.advance(1000);
    await cache.fetch(entry, ["a"]);
    expect(requests.length).toBe(2);
  });

  test("gives out a token that still holds when the server is away, and an error after that", async () => {
    const { cache, clock, server } = newCache();
    const token = await cache.fetch(entry, ["a"]);
    server.failure = new SpireError("UNAVAILABLE", "down");
    await clock.advance((ttl / 2 + 1) * 1000);
    const late = cache.fetch(entry, ["a"]);
    await clock.advance(10_000);
    expect(await late).toBe(token);
    await clock.advance(ttl * 1000);
    const tooLate = cache.fetch(entry, ["a"]).catch((error: unknown) => error);
    await clock.advance(60_000);
    expect(await tooLate).toMatchObject({ code: "UNAVAILABLE" });
  });

  test("tries again what may pass", async () => {
    const { cache, clock, server, requests } = newCache();
    server.failure = new SpireError("UNAVAILABLE", "down");
    const token = cache.fetch(entry, ["a"]);
    await clock.advance(3_000);
    delete server.failure;
    await clock.advance(1_000);
    expect(await token).toBeString();
    expect(requests.length).toBeGreaterThan(2);
  });

  test("doesn't hide a refusal behind an old token", async () => {
    const { cache, clock, server } = newCache();
    await cache.fetch(entry, ["a"]);
    await clock.advance((ttl / 2 + 1) * 1000);
    server.failure = new SpireError("NOT_FOUND", "entry not found or not authorized");
    await expect(cache.fetch(entry, ["a"])).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("never gives a token with an ID of its own to two", async () => {
    const { cache, requests } = newCache();
    const unique = { ...entry, jwtSvidIncludeJti: true };
    await Promise.all([cache.fetch(unique, ["a"]), cache.fetch(unique, ["a"])]);
    expect(requests.length).toBe(2);
  });

  test("drops the token that was used least recently when it is full", async () => {
    const { cache, requests } = newCache(2);
    for (const audience of ["a", "b", "a", "c", "a", "b"]) await cache.fetch(entry, [audience]);
    expect(requests).toEqual(["web a", "web b", "web c", "web b"]);
  });

  test("drops tokens of a key that is tainted", async () => {
    const { cache, requests } = newCache();
    await cache.fetch(entry, ["a"]);
    const authority = { keyId: "k1", publicKey: Buffer.alloc(0), expiresAt: 0, tainted: true };
    cache.applyBundle({ ...emptyBundle(parseTrustDomain("example.org")), jwtAuthorities: [authority] });
    await cache.fetch(entry, ["a"]);
    expect(requests.length).toBe(2);
  });
});
