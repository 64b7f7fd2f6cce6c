/** Authorities rotated by hand under an agent with a workload: what becomes of their SVIDs. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import { authorityId, parseCertificate, splitDer } from "../../src/core/x509/certificate.ts";
import { defaultAgentSettings, type RunningAgent, startAgent } from "../../src/modes/agent.ts";
import { type Channel, dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { BundleService } from "../../src/rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import type { Client } from "../../src/rpc/service.ts";
import { failureOf } from "./failure.ts";
import { entryMessage, idMessage, startTestServer, type TestServer, trustDomain } from "./running.ts";

let running: TestServer;
let agent: RunningAgent;
let workload: Channel;
let api: Client<LocalAuthorityService>;
beforeAll(async () => {
  running = await startTestServer();
  api = running.local.client(LocalAuthorityService);
  const { token } = await running.server.registry.createJoinToken({ ttlSeconds: 600 });
  agent = await startAgent(
    {
      ...defaultAgentSettings,
      trustDomain,
      serverAddress: running.server.address,
      socketPath: join(running.settings.dataDir, "agent.sock"),
      joinToken: token,
      bootstrap: { type: "bundle", bundle: running.server.bundle() },
    },
    { clock: running.clock, log: nullLogger },
  );
  running.server.onChange(() => agent.nudge());
  workload = dialUnix(agent.socketPath);
  const entry = entryMessage({
    parentId: idMessage(agent.agentId.slice(`spiffe://${trustDomain}`.length)),
    selectors: [{ type: "unix", value: `uid:${process.getuid?.() ?? 0}` }],
  });
  await running.local.client(EntryService).batchCreateEntry({ entries: [entry], outputMask: undefined });
});
afterAll(async () => {
  workload.close();
  await agent.close();
  await running.close();
});

const metadata = { "workload.spiffe.io": "true" };

/** Resolves once the workload has an SVID that this authority signed, and these roots. */
async function untilWorkloadHas(signedBy: string, roots: readonly string[]): Promise<void> {
  const stop = new AbortController();
  try {
    const stream = workload
      .client(SpiffeWorkloadAPIService)
      .fetchX509Svid({}, { metadata, signal: stop.signal });
    for await (const { svids } of stream) {
      const [svid] = svids;
      const issuer = svid && parseCertificate(splitDer(svid.x509Svid)[0] ?? new Uint8Array()).authorityKeyId;
      const known = svid ? splitDer(svid.bundle).map((der) => authorityId(parseCertificate(der))) : [];
      if (issuer && Buffer.from(issuer).toString("hex") === signedBy && sameSet(known, roots)) return;
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    stop.abort();
  }
  throw new SpireError("UNAVAILABLE", "the stream ended before the workload had it");
}

const sameSet = (a: readonly string[], b: readonly string[]): boolean =>
  a.toSorted().join() === b.toSorted().join();

const idOf = (state: { readonly authorityId: string } | undefined): string => state?.authorityId ?? "";

describe("an X.509 authority", () => {
  test("is replaced under a workload, step by step, without a restart", async () => {
    const before = idOf((await api.getX509AuthorityState({})).active);
    await untilWorkloadHas(before, [before]);
    const next = idOf((await api.prepareX509Authority({})).preparedAuthority);
    await untilWorkloadHas(before, [before, next]);
    await api.activateX509Authority({ authorityId: next });
    await api.taintX509Authority({ authorityId: before });
    await untilWorkloadHas(next, [before, next]);
    await api.revokeX509Authority({ authorityId: before });
    await untilWorkloadHas(next, [next]);
    const states = await api.getX509AuthorityState({});
    expect([idOf(states.active), states.prepared, idOf(states.old)]).toEqual([next, undefined, before]);
  });

  test("that was prepared is replaced by the next one that is prepared", async () => {
    const first = idOf((await api.prepareX509Authority({})).preparedAuthority);
    const second = idOf((await api.prepareX509Authority({})).preparedAuthority);
    expect((await failureOf(api.activateX509Authority({ authorityId: first }))).code).toBe(
      "INVALID_ARGUMENT",
    );
    expect(idOf((await api.activateX509Authority({ authorityId: second })).activatedAuthority)).toBe(second);
    // It stays in the bundle until it is pruned, as nothing says that nobody used it.
    const { x509Authorities } = running.server.bundle();
    expect(x509Authorities.map(({ der }) => authorityId(parseCertificate(der)))).toContain(first);
  });

  test("is prepared by one call after the other, whoever calls at the same time", async () => {
    const prepared = await Promise.all([1, 2, 3].map(() => api.prepareX509Authority({})));
    const last = idOf(prepared.at(-1)?.preparedAuthority);
    expect(idOf((await api.getX509AuthorityState({})).prepared)).toBe(last);
    const [once, twice] = await Promise.allSettled([
      api.activateX509Authority({ authorityId: last }),
      api.activateX509Authority({ authorityId: last }),
    ]);
    expect([once?.status, twice?.status]).toEqual(["fulfilled", "rejected"]);
  });
});

describe("a JWT authority", () => {
  test("that is tainted gets no new tokens to a workload, and one that is revoked validates none", async () => {
    const client = workload.client(SpiffeWorkloadAPIService);
    const fetchKid = async (): Promise<string> => {
      const { svids } = await client.fetchJwtsvid({ audience: ["a"], spiffeId: "" }, { metadata });
      const header: { kid: string } = JSON.parse(
        Buffer.from(svids[0]?.svid.split(".")[0] ?? "", "base64url").toString(),
      );
      return header.kid;
    };
    const before = idOf((await api.getJwtAuthorityState({})).active);
    expect(await fetchKid()).toBe(before);
    const next = idOf((await api.prepareJwtAuthority({})).preparedAuthority);
    await api.activateJwtAuthority({ authorityId: next });
    await api.taintJwtAuthority({ authorityId: before });
    while ((await fetchKid()) === before);
    expect(await fetchKid()).toBe(next);
    await api.revokeJwtAuthority({ authorityId: before });
    const { jwtAuthorities } = await running.local.client(BundleService).getBundle({ outputMask: undefined });
    expect(jwtAuthorities.map(({ keyId, tainted }) => [keyId, tainted])).toEqual([[next, false]]);
  });
});
