import { afterAll, afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exampleOrg, plainEntry } from "../../../test/fakes/spire-server.ts";
import { createManualClock, unixSeconds } from "../../core/clock.ts";
import type { Entry } from "../../core/entry.ts";
import { SpireError } from "../../core/errors.ts";
import { signJwtSvid } from "../../core/jwt-svid.ts";
import { exportPublicKeyInfo, generateKey } from "../../core/keys.ts";
import { nullLogger } from "../../core/log.ts";
import { parseSelector } from "../../core/selector.ts";
import { parseSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import { emptyBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import { dialUnix } from "../../rpc/dial.ts";
import { HealthService } from "../../rpc/gen/grpc/health/v1/health.ts";
import { SpiffeWorkloadAPIService, X509SVIDResponse } from "../../rpc/gen/spiffe/workload/workloadapi.ts";
import { listenUnix } from "../../rpc/listen.ts";
import type { Call, EncodedMessage } from "../../rpc/service.ts";
import { createWorkloadCache } from "../cache.ts";
import { attestationFailed } from "../workload.ts";
import { createHealthApi } from "./health.ts";
import { createWorkloadApi } from "./workload-api.ts";

const directory = mkdtempSync(join(tmpdir(), "workload-api-"));
afterAll(() => rmSync(directory, { recursive: true }));
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const otherTest = parseTrustDomain("other.test");
const security = { "workload.spiffe.io": "true" };
const selectors = [parseSelector("unix:uid:1")];
const web = (fields: Partial<Entry> = {}): Entry => ({ ...plainEntry("web", 100), selectors, ...fields });

/** The Workload API on a socket, over a cache that the test fills. */
async function serve() {
  const clock = createManualClock(Date.now());
  const cache = createWorkloadCache({ clock, maxSvids: 1000, onMissing() {} });
  const state = { selectors: selectors as readonly (typeof selectors)[number][], alive: true };
  const jwtRequests: string[] = [];
  const service = createWorkloadApi({
    trustDomain: exampleOrg,
    clock,
    cache,
    jwtCache: {
      async fetch(entry, audience) {
        jwtRequests.push(`${entry.id} ${audience.join()}`);
        if (audience.includes("down")) throw new SpireError("UNAVAILABLE", "server is away");
        return `token of ${entry.id}`;
      },
      applyBundle() {},
    },
    attestation: {
      async attest() {
        if (!state.alive) throw attestationFailed();
        return state.selectors;
      },
    },
    allowedForeignJwtClaims: ["allowed"],
  });
  let chains = 0;
  const put = (entries: Entry[], own: TrustBundle = emptyBundle(exampleOrg), others: TrustBundle[] = []) => {
    const federated = new Map(others.map((bundle) => [bundle.trustDomain, bundle]));
    cache.update({ put: entries, deleted: [] }, { own, federated });
    sign(entries);
  };
  const sign = (entries: readonly Entry[]) => {
    const now = unixSeconds(clock);
    const svid = (entry: Entry) => ({
      spiffeId: entry.spiffeId,
      chain: Buffer.from(`chain ${++chains}`),
      key: Buffer.from("key"),
      expiresAt: now + 3600,
      renewAt: now + 1800,
      revisionNumber: entry.revisionNumber,
      issuers: [],
    });
    cache.putSvids(new Map(entries.map((entry) => [entry.id, svid(entry)])));
  };
  return { cache, clock, service, state, put, sign, jwtRequests };
}

async function serveOnSocket() {
  const parts = await serve();
  const listener = await listenUnix({
    path: join(directory, "api.sock"),
    mode: 0o777,
    services: [parts.service, createHealthApi(parts.cache.isReady)],
    log: nullLogger,
  });
  const channel = dialUnix(listener.address);
  closers.push(
    () => listener.close(0),
    () => channel.close(),
  );
  return { ...parts, api: channel.client(SpiffeWorkloadAPIService), health: channel.client(HealthService) };
}

type Api = Awaited<ReturnType<typeof serveOnSocket>>["api"];

interface GoldenCall {
  readonly name: string;
  readonly method: string;
  readonly metadata?: Record<string, string>;
  readonly request: unknown;
  readonly code: string;
  readonly message: string;
}

const golden = (file: string): GoldenCall[] =>
  JSON.parse(readFileSync(join(import.meta.dir, "../../../test/golden/errors", file), "utf8"));

/** Makes a recorded call and returns its status. */
async function replay(api: Api, { method, metadata = {}, request }: GoldenCall): Promise<SpireError> {
  const unary = { audience: [], spiffeId: "", ...(request as object) };
  const calls: Record<string, () => Promise<unknown>> = {
    FetchX509SVID: () => first(api.fetchX509Svid({}, { metadata })),
    FetchX509Bundles: () => first(api.fetchX509Bundles({}, { metadata })),
    FetchJWTBundles: () => first(api.fetchJwtBundles({}, { metadata })),
    FetchJWTSVID: () => api.fetchJwtsvid(unary, { metadata }),
    ValidateJWTSVID: () =>
      api.validateJwtsvid({ audience: "", svid: "", ...(request as object) }, { metadata }),
    FetchWITSVID: () => first(api.fetchWitsvid({ spiffeId: "" }, { metadata })),
    FetchWITBundles: () => first(api.fetchWitBundles({}, { metadata })),
  };
  const outcome = await calls[method]?.().catch((error: unknown) => error);
  return outcome instanceof SpireError ? outcome : new SpireError("UNKNOWN", "call succeeded");
}

async function first<T>(stream: AsyncIterable<T>): Promise<T> {
  for await (const message of stream) return message;
  throw new Error("the stream ended without a message");
}

describe("recorded refusals of a stock agent", () => {
  for (const { name, code, message, ...call } of golden("agent-workload-api-no-header.json")) {
    test(`without the security header: ${call.method} (${name})`, async () => {
      const { api, put } = await serveOnSocket();
      put([web()]);
      expect(await replay(api, { ...call, name, code, message })).toMatchObject({ code, message });
    });
  }

  for (const recorded of golden("agent-workload-api-bad-header.json")) {
    test(`with another security header: ${JSON.stringify(recorded.metadata)}`, async () => {
      const { api, put } = await serveOnSocket();
      put([web()]);
      const { code, message } = recorded;
      expect(await replay(api, recorded)).toMatchObject({ code, message });
    });
  }

  for (const recorded of golden("agent-workload-api-no-identity.json")) {
    test(`of a process that matches nothing: ${recorded.name}`, async () => {
      const { api, put, state } = await serveOnSocket();
      put([web()]);
      state.selectors = [parseSelector("unix:uid:65534")];
      const { code, message } = recorded;
      expect(await replay(api, recorded)).toMatchObject({ code, message });
    });
  }

  for (const recorded of golden("agent-workload-api-dead-caller.json")) {
    test(`of a process that is gone: ${recorded.name}`, async () => {
      const { api, put, state } = await serveOnSocket();
      put([web()]);
      state.alive = false;
      const { code, message } = recorded;
      expect(await replay(api, recorded)).toMatchObject({ code, message });
    });
  }

  const refused = golden("agent-workload-api.json").filter(
    // An empty audience made the stock agent hang until the deadline; ours names it.
    ({ code, name }) => code !== "OK" && name !== "fetch-jwt-svid-empty-audience-string",
  );
  for (const recorded of refused) {
    test(`of a process with an identity: ${recorded.name}`, async () => {
      const { api, put } = await serveOnSocket();
      put([web()]);
      const { code, message } = recorded;
      expect(await replay(api, recorded)).toMatchObject({ code, message });
    });
  }
});

describe("the security header", () => {
  test("counts only once", async () => {
    const { service, put } = await serve();
    put([web()]);
    const twice = streamOf(service.handlers["fetchX509Svid"], { header: ["true", "true"] });
    await expect(twice.next()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});

const callOf = (header: readonly string[], isAlive: () => boolean, { signal }: AbortController): Call => ({
  method: "/SpiffeWorkloadAPI/FetchX509SVID",
  caller: { transport: "unix", address: "", process: { pid: 1, uid: 1, gid: 1, isAlive } },
  metadata: () => header,
  signal,
  log: nullLogger,
  note() {},
  onAnswered() {},
});

/** Calls a handler without a network, so that the test reads message by message. */
function streamOf(
  handler: unknown,
  options: { readonly header?: readonly string[]; readonly isAlive?: () => boolean } = {},
) {
  const controller = new AbortController();
  const call = callOf(options.header ?? ["true"], options.isAlive ?? (() => true), controller);
  const stream = (handler as (request: object, call: Call) => AsyncGenerator<EncodedMessage>)({}, call);
  return Object.assign(stream, { abort: () => controller.abort() });
}

const decode = (result: IteratorResult<EncodedMessage>) =>
  result.done ? undefined : X509SVIDResponse.decode(result.value.bytes).svids;

const chainOf = (result: IteratorResult<EncodedMessage>) => decode(result)?.[0]?.x509Svid.toString();

describe("a stream of X509-SVIDs", () => {
  test("waits for the first sync instead of refusing", async () => {
    const { service, put } = await serve();
    const stream = streamOf(service.handlers["fetchX509Svid"]);
    const message = stream.next();
    put([web({ hint: "internal" })]);
    expect(decode(await message)).toMatchObject([{ spiffeId: "spiffe://example.org/web", hint: "internal" }]);
  });

  test("ends when its client goes before the first sync", async () => {
    const { service } = await serve();
    const stream = streamOf(service.handlers["fetchX509Svid"]);
    const message = stream.next();
    stream.abort();
    await expect(message).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("tells each change, and of many changes only the newest state", async () => {
    const { service, put, sign } = await serve();
    put([web()]);
    const stream = streamOf(service.handlers["fetchX509Svid"]);
    expect(chainOf(await stream.next())).toBe("chain 1");
    sign([web()]);
    expect(chainOf(await stream.next())).toBe("chain 2");
    for (let rotation = 0; rotation < 1000; rotation++) sign([web()]);
    expect(chainOf(await stream.next())).toBe("chain 1002");
    const waiting = stream.next();
    stream.abort();
    expect(await waiting).toMatchObject({ done: true });
  });

  test("says nothing when nothing that it shows changed", async () => {
    const { service, put, cache, sign } = await serve();
    put([web()]);
    const stream = streamOf(service.handlers["fetchX509Svid"]);
    await stream.next();
    const next = stream.next();
    put([{ ...plainEntry("other", 1), selectors: [parseSelector("unix:uid:2")] }]);
    cache.update({ put: [web()], deleted: [] }, { own: emptyBundle(exampleOrg), federated: new Map() });
    sign([web()]);
    expect(chainOf(await next)).toBe("chain 3");
  });

  test("ends with PERMISSION_DENIED when the last identity is taken away", async () => {
    const { service, put, cache } = await serve();
    put([web()]);
    const stream = streamOf(service.handlers["fetchX509Svid"]);
    await stream.next();
    const next = stream.next();
    cache.update({ put: [], deleted: ["web"] }, { own: emptyBundle(exampleOrg), federated: new Map() });
    await expect(next).rejects.toMatchObject({ code: "PERMISSION_DENIED", message: "no identity issued" });
  });

  test("gives nothing more to a process that is gone", async () => {
    const { service, put, sign } = await serve();
    put([web()]);
    let alive = true;
    const stream = streamOf(service.handlers["fetchX509Svid"], { isAlive: () => alive });
    await stream.next();
    alive = false;
    sign([web()]);
    await expect(stream.next()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });
});

describe("bundle streams", () => {
  test("carry the own bundle and the federated ones, for those who have an identity", async () => {
    const { api, put } = await serveOnSocket();
    put([web({ federatesWith: [otherTest] })], emptyBundle(exampleOrg), [emptyBundle(otherTest)]);
    const both = ["spiffe://example.org", "spiffe://other.test"];
    const x509 = await first(api.fetchX509Bundles({}, { metadata: security }));
    expect(Object.keys(x509.bundles).sort()).toEqual(both);
    const jwt = await first(api.fetchJwtBundles({}, { metadata: security }));
    expect(Object.keys(jwt.bundles).sort()).toEqual(both);
    expect(JSON.parse(String(jwt.bundles["spiffe://example.org"]))).toEqual({ keys: [] });
  });

  test("are not woken by a new SVID", async () => {
    const { service, put, sign } = await serve();
    put([web()]);
    const stream = streamOf(service.handlers["fetchX509Bundles"]);
    await stream.next();
    const next = stream.next();
    sign([web()]);
    stream.abort();
    expect(await next).toMatchObject({ done: true });
  });
});

describe("FetchJWTSVID", () => {
  test("gives one token for each entry, in the order of their IDs", async () => {
    const { api, put } = await serveOnSocket();
    put([web({ hint: "h" }), { ...plainEntry("api", 1), selectors }]);
    const { svids } = await api.fetchJwtsvid({ audience: ["a"], spiffeId: "" }, { metadata: security });
    expect(svids).toEqual([
      { spiffeId: "spiffe://example.org/api", svid: "token of api", hint: "" },
      { spiffeId: "spiffe://example.org/web", svid: "token of web", hint: "h" },
    ]);
  });

  test("gives only the one that is asked for", async () => {
    const { api, put, jwtRequests } = await serveOnSocket();
    put([web(), { ...plainEntry("api", 1), selectors }]);
    const request = { audience: ["b", "", "a"], spiffeId: "spiffe://example.org/web" };
    expect((await api.fetchJwtsvid(request, { metadata: security })).svids.length).toBe(1);
    expect(jwtRequests).toEqual(["web b,a"]);
  });

  test("refuses an audience of empty names", async () => {
    const { api } = await serveOnSocket();
    const call = api.fetchJwtsvid({ audience: ["", ""], spiffeId: "" }, { metadata: security });
    await expect(call).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "audience must be specified",
    });
  });

  test("gives nothing to a process that went while the server was asked", async () => {
    const { service, put } = await serve();
    put([web()]);
    const handler = service.handlers["fetchJwtsvid"] as (request: object, call: Call) => Promise<unknown>;
    const answer = (isAlive: boolean) =>
      handler(
        { audience: ["a"], spiffeId: "" },
        callOf(["true"], () => isAlive, new AbortController()),
      );
    expect(await answer(true)).toMatchObject({ svids: [{ svid: "token of web" }] });
    await expect(answer(false)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  test("is UNAVAILABLE when the server is", async () => {
    const { api, put } = await serveOnSocket();
    put([web()]);
    const call = api.fetchJwtsvid({ audience: ["down"], spiffeId: "" }, { metadata: security });
    await expect(call).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: "could not fetch JWT-SVID: server is away",
    });
  });
});

describe("ValidateJWTSVID", () => {
  /** A bundle with one key, and what signs with it. */
  async function issuer(trustDomain: typeof exampleOrg) {
    const key = await generateKey("ec-p256");
    const publicKey = exportPublicKeyInfo(key.publicKey);
    const authority = { keyId: "k", publicKey, expiresAt: 0, tainted: false };
    const bundle = { ...emptyBundle(trustDomain), jwtAuthorities: [authority] };
    const sign = (now: number) =>
      signJwtSvid({
        key,
        keyId: "k",
        spiffeId: parseSpiffeId(`spiffe://${trustDomain}/x`),
        audience: ["a", "b"],
        issuedAt: now,
        expiresAt: now + 60,
        issuer: "https://issuer.test",
      });
    return { bundle, sign };
  }

  test("returns ID and claims of a token of the own trust domain", async () => {
    const { api, put, clock } = await serveOnSocket();
    const { bundle, sign } = await issuer(exampleOrg);
    put([web()], bundle);
    const now = unixSeconds(clock);
    const request = { audience: "b", svid: await sign(now) };
    expect(await api.validateJwtsvid(request, { metadata: security })).toEqual({
      spiffeId: "spiffe://example.org/x",
      claims: {
        sub: "spiffe://example.org/x",
        aud: ["a", "b"],
        iat: now,
        exp: now + 60,
        iss: "https://issuer.test",
      },
    });
  });

  test("shows only the allowed claims of a federated token", async () => {
    const { api, put, clock } = await serveOnSocket();
    const { bundle, sign } = await issuer(otherTest);
    put([web({ federatesWith: [otherTest] })], emptyBundle(exampleOrg), [bundle]);
    const request = { audience: "a", svid: await sign(unixSeconds(clock)) };
    const { claims } = await api.validateJwtsvid(request, { metadata: security });
    expect(Object.keys(claims ?? {}).sort()).toEqual(["aud", "exp", "sub"]);
  });

  test("doesn't know bundles that the caller's identities don't federate with", async () => {
    const { api, put, clock } = await serveOnSocket();
    const { bundle, sign } = await issuer(otherTest);
    put([web()], emptyBundle(exampleOrg), [bundle]);
    const request = { audience: "a", svid: await sign(unixSeconds(clock)) };
    await expect(api.validateJwtsvid(request, { metadata: security })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: 'no keys found for trust domain "other.test"',
    });
  });

  const refused = golden("agent-validate-jwt-svid.json").filter(({ name }) =>
    ["no-audience", "no-token", "alg-none", "three-empty-parts"].includes(name),
  );
  for (const recorded of refused) {
    test(`refuses as recorded: ${recorded.name}`, async () => {
      const { api, put } = await serveOnSocket();
      put([web()]);
      const { code, message } = recorded;
      expect(await replay(api, recorded)).toMatchObject({ code, message });
    });
  }
});

describe("health", () => {
  test("is SERVING once the first sync is in", async () => {
    const { health, put } = await serveOnSocket();
    expect(await health.check({ service: "" })).toEqual({ status: 2 });
    put([]);
    expect(await health.check({ service: "" })).toEqual({ status: 1 });
  });

  test("is that of the whole agent only", async () => {
    const { health } = await serveOnSocket();
    await expect(health.check({ service: "SpiffeWorkloadAPI" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "per-service health is not supported",
    });
  });
});
