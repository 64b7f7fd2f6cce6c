/** An agent that is answered with something else than it asked for must not hand that out. */
import { describe, expect, test } from "bun:test";
import { createJwtCache } from "../../src/agent/jwt-cache.ts";
import { entryFromMessage } from "../../src/agent/messages.ts";
import { createSvidSigner, type WorkloadSvid } from "../../src/agent/sign-svids.ts";
import { createManualClock, unixSeconds } from "../../src/core/clock.ts";
import type { Entry } from "../../src/core/entry.ts";
import { signJwtSvid } from "../../src/core/jwt-svid.ts";
import { generateKey } from "../../src/core/keys.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseSpiffeId, parseTrustDomain, type SpiffeId } from "../../src/core/spiffe-id.ts";
import { parseCertificateRequest } from "../../src/core/x509/csr.ts";
import { createIssuer, issueSelfSignedCa, issueWorkloadSvid } from "../../src/core/x509/issue.ts";
import type { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { Client } from "../../src/rpc/service.ts";
import { plainEntry } from "../fakes/spire-server.ts";
import { entryMessage } from "../server/running.ts";

const clock = createManualClock(1_800_000_000_000);
const now = unixSeconds(clock);
const key = await generateKey("ec-p256");
const { der } = await issueSelfSignedCa(
  { key, trustDomain: parseTrustDomain("example.org"), ttlSeconds: 86_400 },
  now,
);
const issuer = createIssuer(key, der, []);
const victim = parseSpiffeId("spiffe://example.org/victim");
const web: Entry = plainEntry("web", 0);

interface Params {
  readonly entryId: string;
  readonly csr: Uint8Array;
}

/** What a server signs for a request, given the SPIFFE ID that the entry has there by now. */
async function sign(spiffeId: SpiffeId, { csr }: Params) {
  const { publicKeyInfo } = parseCertificateRequest(csr);
  const svid = await issueWorkloadSvid(
    issuer,
    { spiffeId, publicKeyInfo, dnsNames: [], ttlSeconds: 3_600 },
    now,
  );
  return {
    status: { code: 0, message: "" },
    svid: { certChain: [svid.der], id: undefined, expiresAt: 0, hint: "" },
  };
}

/** The SVIDs that an agent takes from a server that answers by `answer`. */
async function signed(
  entries: readonly Entry[],
  answer: (params: readonly Params[]) => Promise<unknown[]>,
): Promise<Map<string, WorkloadSvid>> {
  const client = {
    batchNewX509Svid: async ({ params }: { params: Params[] }) => ({ results: await answer(params) }),
  } as unknown as Client<SVIDService>;
  const taken = new Map<string, WorkloadSvid>();
  const signer = createSvidSigner({ client: () => client, keyType: "ec-p256", log: nullLogger });
  await signer.sign(
    entries,
    (svids) => {
      for (const [id, svid] of svids) taken.set(id, svid);
    },
    new AbortController().signal,
  );
  return taken;
}

describe("an X.509-SVID", () => {
  test("of the entry's ID for the key of the request is taken", async () => {
    const svids = await signed([web], (params) =>
      Promise.all(params.map((each) => sign(web.spiffeId, each))),
    );
    expect(svids.get("web")?.spiffeId).toBe(web.spiffeId);
  });

  test("of another ID, as after a change of the entry that the agent has not seen, is not", async () => {
    const svids = await signed([web], (params) => Promise.all(params.map((each) => sign(victim, each))));
    expect(svids.size).toBe(0);
  });

  test("for another request's key is not", async () => {
    const api = { ...plainEntry("api", 0), spiffeId: web.spiffeId };
    const svids = await signed([web, api], async (params) =>
      Promise.all(params.toReversed().map((each) => sign(web.spiffeId, each))),
    );
    expect(svids.size).toBe(0);
  });

  test("that can't be read costs no other entry its own", async () => {
    const api = plainEntry("api", 0);
    const svids = await signed([web, api], async ([first, second]) => [
      first && { ...(await sign(web.spiffeId, first)), svid: { certChain: [Buffer.from("x")] } },
      second && (await sign(api.spiffeId, second)),
    ]);
    expect([...svids.keys()]).toEqual(["api"]);
  });
});

test("an entry without selectors is left out: every process would match it, and looking for its views would fail", () => {
  const message = (selectors: { type: string; value: string }[]) =>
    entryMessage({ id: "e", spiffeId: { trustDomain: "example.org", path: "/web" }, selectors });
  expect(entryFromMessage(message([{ type: "unix", value: "uid:1" }]), victim).id).toBe("e");
  expect(() => entryFromMessage(message([]), victim)).toThrow("no selectors");
});

describe("a JWT-SVID", () => {
  function cacheOf(answer: { spiffeId: SpiffeId; audience: string[] }) {
    let calls = 0;
    const client = {
      async newJwtsvid() {
        calls += 1;
        const times = { issuedAt: now, expiresAt: now + 300 };
        const token = await signJwtSvid({ key, keyId: "k", ...answer, ...times });
        return { svid: { token, id: undefined, ...times, hint: "" } };
      },
    } as unknown as Client<SVIDService>;
    const cache = createJwtCache({ client: () => client, clock, log: nullLogger, maxTokens: 10 });
    return { cache, calls: () => calls };
  }

  test("of the entry's ID and the audience is given out and kept", async () => {
    const { cache, calls } = cacheOf({ spiffeId: web.spiffeId, audience: ["a", "b"] });
    await cache.fetch(web, ["a", "b"]);
    await cache.fetch(web, ["b", "a"]);
    expect(calls()).toBe(1);
  });

  test("of another ID is neither given out nor kept", async () => {
    const { cache, calls } = cacheOf({ spiffeId: victim, audience: ["a"] });
    for (let times = 1; times <= 2; times += 1) {
      await expect(cache.fetch(web, ["a"])).rejects.toMatchObject({ code: "INTERNAL" });
      expect(calls()).toBe(times);
    }
  });
});
