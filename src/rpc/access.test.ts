import { describe, expect, test } from "bun:test";
import matrix from "../../test/golden/errors/authz-matrix.json";
import { createManualClock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { nullLogger } from "../core/log.ts";
import { parseSpiffeId } from "../core/spiffe-id.ts";
import { type AccessLookups, agentRefused, createAccess } from "./access.ts";
import { PermissionDeniedDetails, PermissionDeniedDetails_Reason } from "./gen/spire/api/types/status.ts";
import { methodRules } from "./server-methods.ts";
import type { Call, Caller, PeerSvid } from "./service.ts";

const svidOf = (path: string): PeerSvid => ({
  id: parseSpiffeId(`spiffe://example.org${path}`),
  chain: [],
  serialNumber: "1",
  expiresAt: 3_600,
});
const overTls = (path: string, address = "192.0.2.1:1000"): Caller => ({
  transport: "tcp",
  address,
  svid: svidOf(path),
});

/** By the names of the recorded matrix. */
const callers: Readonly<Record<string, Caller>> = {
  "server-local-uds": { transport: "unix", address: "/run/api.sock" },
  "tls-without-client-cert": { transport: "tcp", address: "192.0.2.1:1000" },
  "admin-entry-svid": overTls("/admin-by-entry"),
  "admin-ids-svid": overTls("/admin-by-configuration"),
  "downstream-svid": overTls("/downstream"),
  "workload-svid": overTls("/workload"),
  agent: overTls("/spire/agent/test"),
};

const lookups: AccessLookups = {
  configuredAdmin: (id) => id.endsWith("/admin-by-configuration"),
  admin: (id) => id.endsWith("/admin-by-entry"),
  downstream: (id) => id.endsWith("/downstream"),
  async agent({ id }) {
    if (!id.endsWith("/spire/agent/test")) throw agentRefused("AGENT_NOT_ATTESTED", "no such agent");
  },
};

function callOf(method: string, caller: Caller, signal = new AbortController().signal): Call {
  return { method, caller, metadata: () => [], signal, log: nullLogger, note() {}, onAnswered() {} };
}

function setUp(overrides: Partial<AccessLookups> = {}, limited = true) {
  const clock = createManualClock(0);
  const rateLimit = { attestation: limited, signing: limited };
  const before = createAccess({ lookups: { ...lookups, ...overrides }, clock, rateLimit });
  return { clock, check: async (call: Call, request: unknown = {}) => before(call, request) };
}

async function refusal(promise: Promise<unknown>): Promise<SpireError | undefined> {
  return promise.then(
    () => undefined,
    (error: unknown) => SpireError.from(error),
  );
}

describe("who may call what", () => {
  test("each method and caller is judged as the recorded server judged it", async () => {
    const { check } = setUp({}, false);
    let judged = 0;
    for (const { service, method, results } of matrix) {
      const path = `/${service}/${method}`;
      for (const [name, result] of Object.entries(results)) {
        const caller = callers[name];
        if (!caller) throw new Error(`unknown caller ${name}`);
        if (typeof result !== "object") continue;
        // Not registered there at all: nothing to compare with.
        if (result.code === "UNIMPLEMENTED" && name !== "server-local-uds" && isLocalOnly(path)) continue;
        const error = await refusal(check(callOf(path, caller)));
        const expected = result.code === "PERMISSION_DENIED" ? result.message : undefined;
        expect({ path, name, refused: error?.message }).toEqual({ path, name, refused: expected });
        judged += 1;
      }
    }
    expect(matrix.length).toBe(65);
    expect(judged).toBeGreaterThan(400);
  });

  const isLocalOnly = (path: string) => methodRules.get(path)?.allowed.join() === "local";

  test("the table holds exactly the recorded methods, and those of our own packages", () => {
    const recorded = matrix.map(({ service, method }) => `/${service}/${method}`);
    const spires = [...methodRules.keys()].filter((method) => !method.startsWith("/spire.server."));
    expect(spires.sort()).toEqual(recorded.sort());
  });

  test("the history of the bundle is for callers on the server's machine alone", () => {
    const rules = [...methodRules].filter(([method]) => method.includes(".BundleHistory/"));
    expect(rules.map(([, { allowed }]) => allowed)).toEqual([["local"], ["local"]]);
  });

  test("a method without a rule is denied to everybody", async () => {
    const { check } = setUp();
    for (const caller of Object.values(callers)) {
      const error = await refusal(check(callOf("/spire.api.server.agent.v1.Agent/Nonsense", caller)));
      expect(error?.code).toBe("PERMISSION_DENIED");
    }
  });

  test("an SVID that ended while its connection stands makes nobody an admin or a downstream server", async () => {
    const { check, clock } = setUp();
    const methods: [string, string][] = [
      ["/spire.api.server.agent.v1.Agent/CountAgents", "/admin-by-entry"],
      ["/spire.api.server.agent.v1.Agent/CountAgents", "/admin-by-configuration"],
      ["/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", "/downstream"],
    ];
    await clock.advance(3_599_000);
    for (const [method, path] of methods) {
      expect(await refusal(check(callOf(method, overTls(path))))).toBeUndefined();
    }
    await clock.advance(1_000);
    for (const [method, path] of methods) {
      const error = await refusal(check(callOf(method, overTls(path))));
      expect(error).toMatchObject({
        code: "PERMISSION_DENIED",
        message: `authorization denied for method ${method}`,
      });
    }
  });

  test("a refused agent learns the reason in the details", async () => {
    const { check } = setUp({ agent: () => Promise.reject(agentRefused("AGENT_BANNED", "banned")) });
    const path = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
    const error = await refusal(check(callOf(path, overTls("/spire/agent/test"))));
    expect(error?.message).toBe(`authorization denied for method ${path}`);
    expect(
      error?.details.map(({ typeUrl, value }) => [typeUrl, PermissionDeniedDetails.decode(value)]),
    ).toEqual([
      [
        "type.googleapis.com/spire.api.types.PermissionDeniedDetails",
        { reason: PermissionDeniedDetails_Reason.AGENT_BANNED },
      ],
    ]);
  });

  test("a failed lookup is not a denial", async () => {
    const { check } = setUp({ agent: () => Promise.reject(new SpireError("INTERNAL", "store is down")) });
    const path = "/spire.api.server.agent.v1.Agent/RenewAgent";
    expect((await refusal(check(callOf(path, overTls("/spire/agent/test")))))?.code).toBe("INTERNAL");
  });

  test("the log says as whom and by what a caller was let in", async () => {
    const { check } = setUp();
    const path = "/spire.api.server.agent.v1.Agent/CountAgents";
    expect(await check(callOf(path, overTls("/admin-by-entry")))).toEqual({
      authorized_as: "admin",
      authorized_via: "entries",
    });
    expect(await check(callOf(path, callers["server-local-uds"] ?? overTls("")))).toEqual({
      authorized_as: "local",
      authorized_via: "transport",
    });
  });
});

describe("rate limits", () => {
  const attest = "/spire.api.server.agent.v1.Agent/AttestAgent";
  const batch = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";
  const items = (count: number) => ({ params: Array.from({ length: count }) });

  /** Whether the call has been let through, after the promises under way have settled. */
  async function passed(promise: Promise<unknown>): Promise<boolean> {
    let done = false;
    void promise.then(() => {
      done = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    return done;
  }

  test("one attestation a second passes, the next waits for its turn", async () => {
    const { check, clock } = setUp();
    const caller = overTls("/x");
    expect(await passed(check(callOf(attest, caller)))).toBe(true);
    const second = check(callOf(attest, caller));
    const third = check(callOf(attest, caller));
    expect(await passed(second)).toBe(false);
    await clock.advance(1_000);
    expect(await passed(second)).toBe(true);
    expect(await passed(third)).toBe(false);
    await clock.advance(1_000);
    expect(await passed(third)).toBe(true);
  });

  test("addresses don't share a budget, ports of one address do", async () => {
    const { check } = setUp();
    expect(await passed(check(callOf(attest, overTls("/x", "192.0.2.1:1"))))).toBe(true);
    expect(await passed(check(callOf(attest, overTls("/x", "192.0.2.1:2"))))).toBe(false);
    expect(await passed(check(callOf(attest, overTls("/x", "[2001:db8::1]:1"))))).toBe(true);
    expect(await passed(check(callOf(attest, overTls("/x", "[2001:db8::1]:2"))))).toBe(false);
  });

  test("a batch takes one token an item, and more than the burst is refused", async () => {
    const { check, clock } = setUp();
    const call = () => callOf(batch, overTls("/spire/agent/test"));
    expect(await passed(check(call(), items(500)))).toBe(true);
    const waiting = check(call(), items(250));
    await clock.advance(499);
    expect(await passed(waiting)).toBe(false);
    await clock.advance(1);
    expect(await passed(waiting)).toBe(true);
    const error = await refusal(check(call(), items(501)));
    expect(error).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      message: "rate (501) exceeds burst size (500)",
    });
  });

  test("an empty batch and the Unix socket take nothing", async () => {
    const { check } = setUp();
    expect(await passed(check(callOf(batch, overTls("/spire/agent/test")), items(500)))).toBe(true);
    expect(await passed(check(callOf(batch, overTls("/spire/agent/test")), items(0)))).toBe(true);
    for (let i = 0; i < 3; i++) {
      expect(await passed(check(callOf(attest, { transport: "unix", address: "/s" })))).toBe(true);
    }
  });

  test("a caller that gives up hands its tokens back", async () => {
    const { check, clock } = setUp();
    const caller = overTls("/x");
    await check(callOf(attest, caller));
    const leaving = new AbortController();
    const abandoned = check(callOf(attest, caller, leaving.signal));
    expect(await passed(abandoned)).toBe(false);
    leaving.abort();
    expect(await passed(abandoned)).toBe(true);
    await clock.advance(1_000);
    expect(await passed(check(callOf(attest, caller)))).toBe(true);
  });

  test("attestation and signing can be switched off, status reports can't", async () => {
    const { check } = setUp({}, false);
    const agent = overTls("/spire/agent/test");
    const status = "/spire.api.server.agent.v1.Agent/PostStatus";
    for (let i = 0; i < 20; i++) expect(await passed(check(callOf(attest, agent)))).toBe(true);
    expect(await passed(check(callOf(batch, agent), items(5_000)))).toBe(true);
    for (let i = 0; i < 10; i++) expect(await passed(check(callOf(status, agent)))).toBe(true);
    expect(await passed(check(callOf(status, agent)))).toBe(false);
  });

  test("an address that was idle for long starts with a full budget", async () => {
    const { check, clock } = setUp();
    const call = () => callOf(batch, overTls("/spire/agent/test"));
    await check(call(), items(500));
    await clock.advance(120_000);
    expect(await passed(check(call(), items(500)))).toBe(true);
  });
});
