import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  createDomain,
  type ScriptedServer,
  serveScripted,
  type TestDomain,
} from "../../../test/server/endpoints.ts";
import { failureOf } from "../../../test/server/failure.ts";
import { createAdjustableClock } from "../../../test/server/running.ts";
import { createManualClock, systemClock } from "../../core/clock.ts";
import type { EndpointProfile } from "../../core/federation.ts";
import { makeSpiffeId, parseTrustDomain } from "../../core/spiffe-id.ts";
import { formatSpiffeBundle, type TrustBundle } from "../../core/trust-bundle.ts";
import type { TlsIdentity } from "../../rpc/tls.ts";
import { type BundleFetch, fetchBundle } from "./fetch-bundle.ts";

const trustDomain = parseTrustDomain("other.test");
const spiffe: EndpointProfile = {
  type: "https_spiffe",
  endpointSpiffeId: makeSpiffeId(trustDomain, "/endpoint"),
};

let domain: TestDomain;
let stranger: TestDomain;
let endpoint: TlsIdentity;
let text: string;
beforeAll(async () => {
  domain = await createDomain(trustDomain);
  stranger = await createDomain(trustDomain);
  endpoint = await domain.identity("/endpoint", ["localhost"]);
  text = formatSpiffeBundle({ ...domain.bundle, refreshHint: 60 });
});

const plain = (body: string, status = "200 OK", more = ""): string =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${more}\r\n${body}`;

let answer: () => string;
let server: ScriptedServer;
/** Replaces the server's identity. */
async function serve(identity: TlsIdentity): Promise<void> {
  server?.close();
  server = await serveScripted(identity, (socket) => void socket.write(answer()));
}
beforeEach(async () => {
  answer = () => plain(text);
  await serve(endpoint);
});
afterEach(() => server.close());

const fetch = (profile: EndpointProfile, overrides: Partial<BundleFetch> = {}): Promise<TrustBundle> =>
  fetchBundle({
    relationship: { trustDomain, bundleEndpointUrl: `https://localhost:${server.port}/b?c=d`, profile },
    endpointBundle: domain.bundle,
    clock: systemClock,
    signal: new AbortController().signal,
    webRoots: [domain.root],
    ...overrides,
  });

describe("where post-quantum key exchange is required", () => {
  const serveBy = async (ecdhCurve: string) => {
    server.close();
    server = await serveScripted(endpoint, (socket) => void socket.write(answer()), { ecdhCurve });
  };

  test("an endpoint that has it is asked", async () => {
    await serveBy("X25519MLKEM768");
    expect((await fetch(spiffe, { requirePqKem: true })).refreshHint).toBe(60);
  });

  test("one that hasn't is not, unless it is known by the web's certificates, as in SPIRE", async () => {
    await serveBy("X25519");
    expect((await failureOf(fetch(spiffe, { requirePqKem: true }))).code).toBe("UNAVAILABLE");
    expect(server.requests).toEqual([]);
    expect((await fetch({ type: "https_web" }, { requirePqKem: true })).refreshHint).toBe(60);
    expect((await fetch(spiffe)).refreshHint).toBe(60);
  });
});

describe.each<[string, EndpointProfile]>([
  ["https_spiffe", spiffe],
  ["https_web", { type: "https_web" }],
])("a bundle endpoint of profile %s", (_, profile) => {
  test("is asked for its path, and its bundle read", async () => {
    expect(await fetch(profile)).toEqual({ ...domain.bundle, refreshHint: 60 });
    expect(server.requests.join()).toStartWith("GET /b?c=d HTTP/1.1\r\nHost: localhost:");
  });

  test("may answer in chunks, in pieces, without a length, or after an interim answer", async () => {
    const half = Math.floor(text.length / 2);
    const chunk = (part: string) => `${Buffer.byteLength(part).toString(16)};x=y\r\n${part}\r\n`;
    const chunks = `${chunk(text.slice(0, half))}${chunk(text.slice(half))}0\r\n\r\n`;
    answer = () => `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${chunks}`;
    expect((await fetch(profile)).refreshHint).toBe(60);
    answer = () => `HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n${plain(text)}`;
    expect((await fetch(profile)).refreshHint).toBe(60);
    server.close();
    server = await serveScripted(endpoint, (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n\r\n${text.slice(0, half)}`, () => socket.end(text.slice(half)));
    });
    expect((await fetch(profile)).refreshHint).toBe(60);
  });

  test("may send elsewhere, but not away from https, and not for ever", async () => {
    answer = () =>
      server.requests.length < 3
        ? plain("", "302 Found", `Location: https://localhost:${server.port}/next\r\n`)
        : plain(text);
    expect((await fetch(profile)).refreshHint).toBe(60);
    expect(server.requests[2]).toStartWith("GET /next ");
    answer = () => plain("", "307 Temporary Redirect", "Location: http://localhost/\r\n");
    expect((await failureOf(fetch(profile))).message).toContain("must use the https scheme");
    answer = () => plain("", "302 Found", "Location: /again\r\n");
    expect((await failureOf(fetch(profile))).message).toContain("too many redirections");
  });

  test.each([
    [() => plain("gone", "404 Not Found"), "unexpected status 404"],
    [() => plain("{"), "unable to parse JWKS"],
    [() => plain("{}"), "no authorities found"],
    [() => "SSH-2.0-x\r\n\r\n", "malformed HTTP answer"],
    [() => "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "malformed HTTP answer"],
    [() => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "malformed HTTP answer"],
    [() => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "malformed HTTP answer"],
    [() => `HTTP/1.1 200 OK\r\n\r\n${"x".repeat(5 * 1024 * 1024)}`, "too long"],
  ])("that answers anything else is refused (%#)", async (script, reason) => {
    answer = script;
    const failure = await failureOf(fetch(profile));
    expect(failure.code).toBe("UNAVAILABLE");
    expect(failure.message).toStartWith("failed to fetch federated bundle from endpoint: ");
    expect(failure.message).toContain(reason);
  });

  test("that breaks off is refused", async () => {
    server.close();
    server = await serveScripted(endpoint, (socket) => {
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
    });
    expect((await failureOf(fetch(profile))).message).toContain("breaks off");
  });

  test("that stays silent is given up after 30 s, or when the fetch is called off", async () => {
    const asked = Promise.withResolvers<void>();
    server.close();
    server = await serveScripted(endpoint, () => asked.resolve());
    const clock = createManualClock(Date.now());
    const failure = failureOf(fetch(profile, { clock }));
    await asked.promise;
    await clock.advance(30_000);
    expect((await failure).message).toContain("did not answer in time");
    const stop = new AbortController();
    const stopped = failureOf(fetch(profile, { signal: stop.signal }));
    stop.abort();
    expect((await stopped).message).toContain("called off");
  });

  test("that nobody listens at is unavailable", async () => {
    server.close();
    expect((await failureOf(fetch(profile))).code).toBe("UNAVAILABLE");
  });
});

describe("profile https_spiffe", () => {
  const refused = async (reason: string, overrides: Partial<BundleFetch> = {}) => {
    expect((await failureOf(fetch(spiffe, overrides))).message).toContain(reason);
    // Nothing was said to an endpoint that isn't who it should be.
    expect(server.requests).toEqual([]);
  };

  test("needs the bundle of the endpoint's trust domain", async () => {
    const failure = await failureOf(fetch(spiffe, { endpointBundle: undefined }));
    expect(failure.message).toBe("can't perform SPIFFE Authentication: local copy of bundle not found");
  });

  test("refuses another SPIFFE ID of the same trust domain", async () => {
    await serve(await domain.identity("/workload", ["localhost"]));
    await refused('the endpoint is "spiffe://other.test/workload"');
  });

  test("refuses the right SPIFFE ID from another authority", async () => {
    await serve(await stranger.identity("/endpoint", ["localhost"]));
    await refused("unknown authority");
  });

  test("refuses an SVID that has expired by our clock", async () => {
    const clock = createAdjustableClock();
    clock.putForward(3_600_000);
    await refused("expired", { clock });
  });

  test("asks for no host name", async () => {
    await serve(await domain.identity("/endpoint"));
    expect((await fetch(spiffe)).refreshHint).toBe(60);
  });
});

describe("profile https_web", () => {
  const web: EndpointProfile = { type: "https_web" };
  const refused = async (overrides: Partial<BundleFetch> = {}) => {
    expect((await failureOf(fetch(web, overrides))).code).toBe("UNAVAILABLE");
    expect(server.requests).toEqual([]);
  };

  test("refuses a certificate for another host", async () => {
    await serve(await domain.identity("/endpoint", ["elsewhere.test"]));
    await refused();
  });

  test("refuses a certificate that no root vouches for", async () => {
    await refused({ webRoots: [stranger.root] });
  });

  test("trusts what system and runtime trust when no roots are given", async () => {
    const relationship = {
      trustDomain,
      bundleEndpointUrl: `https://localhost:${server.port}/`,
      profile: web,
    };
    const signal = new AbortController().signal;
    const work = fetchBundle({ relationship, endpointBundle: undefined, clock: systemClock, signal });
    expect((await failureOf(work)).code).toBe("UNAVAILABLE");
  });
});
