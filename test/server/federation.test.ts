/** Two servers that federate: the bundle endpoint of one, relationships and refreshes of the other. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:tls";
import { unixSeconds } from "../../src/core/clock.ts";
import type { FederationRelationship } from "../../src/core/federation.ts";
import { parseTrustDomain, serverId } from "../../src/core/spiffe-id.ts";
import { parseSpiffeBundle } from "../../src/core/trust-bundle.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { TrustDomainService } from "../../src/rpc/gen/spire/api/server/trustdomain/v1/trustdomain.ts";
import { FederationRelationship as RelationshipMessage } from "../../src/rpc/gen/spire/api/types/federationrelationship.ts";
import { peerChain } from "../../src/rpc/tls.ts";
import { until } from "./authority-fixture.ts";
import { failureOf } from "./failure.ts";
import { startTestServer, type TestServer } from "./running.ts";

const other = parseTrustDomain("other.test");
let foreign: TestServer;
beforeAll(async () => {
  foreign = await startTestServer({
    trustDomain: other,
    federation: {
      bundleEndpoint: { address: "127.0.0.1", port: 0, refreshHintSeconds: 120 },
      federatesWith: [],
    },
  });
});
afterAll(() => foreign.close());

const endpointUrl = () => `https://${foreign.server.bundleEndpointAddress}`;
const relationship = (): FederationRelationship => ({
  trustDomain: other,
  bundleEndpointUrl: endpointUrl(),
  profile: { type: "https_spiffe", endpointSpiffeId: serverId(other) },
});

/** One request as text, and the certificates that were shown. */
function ask(request: string): Promise<{ answer: string; chain: readonly Uint8Array[] }> {
  return new Promise((resolve, reject) => {
    const { hostname: host, port } = new URL(endpointUrl());
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false });
    let answer = "";
    let chain: readonly Uint8Array[] = [];
    socket.on("error", reject);
    socket.once("secureConnect", () => {
      chain = peerChain(socket);
      socket.write(`${request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (bytes: Buffer) => {
      answer += bytes.toString();
    });
    socket.once("close", () => resolve({ answer, chain }));
  });
}

/** A complete rotation of the other trust domain's X.509 authority. */
async function rotateForeign(): Promise<void> {
  const api = foreign.local.client(LocalAuthorityService);
  const { active } = await api.getX509AuthorityState({});
  const { preparedAuthority } = await api.prepareX509Authority({});
  await api.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? "" });
  await api.taintX509Authority({ authorityId: active?.authorityId ?? "" });
  await api.revokeX509Authority({ authorityId: active?.authorityId ?? "" });
}

describe("the bundle endpoint", () => {
  test("serves the bundle as JSON to whoever asks, with the refresh hint", async () => {
    const { answer } = await ask("GET /?x=y");
    const [head = "", body = ""] = answer.split("\r\n\r\n");
    expect(head).toStartWith("HTTP/1.1 200 OK\r\n");
    expect(head.toLowerCase()).toContain("content-type: application/json\r\n");
    expect(head.toLowerCase()).toContain(`content-length: ${Buffer.byteLength(body)}`);
    const served = parseSpiffeBundle(other, body);
    const own = foreign.server.bundle();
    expect(served.x509Authorities).toEqual([...own.x509Authorities]);
    expect(served.jwtAuthorities.map(({ keyId }) => keyId)).toEqual(
      own.jwtAuthorities.map(({ keyId }) => keyId),
    );
    expect([served.refreshHint, served.sequenceNumber]).toEqual([120, own.sequenceNumber]);
  });

  test.each([
    ["GET /bundle", "404"],
    ["GET //x", "404"],
    ["GET nonsense", "400"],
    ["POST /", "405"],
    ["TRACE /", "405"],
    ["DELETE /", "405"],
    ["POST /bundle", "404"],
  ])("answers %s with %s", async (request, status) => {
    expect((await ask(request)).answer).toStartWith(`HTTP/1.1 ${status} `);
  });

  test("shows the server's SVID, and the new one once its authority changed", async () => {
    const now = unixSeconds(foreign.clock);
    const before = await ask("GET /");
    expect(verifySvidChain(before.chain, foreign.server.bundle(), now).id).toBe(serverId(other));
    await rotateForeign();
    for (;;) {
      const { chain } = await ask("GET /");
      if (Buffer.compare(chain[0] ?? Buffer.of(), before.chain[0] ?? Buffer.of()) === 0) continue;
      expect(verifySvidChain(chain, foreign.server.bundle(), now).id).toBe(serverId(other));
      return;
    }
  });

  test("is refused a port that is taken", async () => {
    const port = Number(new URL(endpointUrl()).port);
    const federation = { bundleEndpoint: { address: "127.0.0.1", port }, federatesWith: [] };
    const failure = await failureOf(startTestServer({ federation }));
    expect(failure.code).toBe("UNAVAILABLE");
    expect(failure.message).toContain(`could not listen at 127.0.0.1:${port}`);
  });
});

describe("a server that federates", () => {
  let running: TestServer | undefined;
  afterEach(() => running?.close());
  const start = async (federatesWith: readonly FederationRelationship[] = []): Promise<TestServer> => {
    running = await startTestServer({ federation: { federatesWith } });
    return running;
  };

  test("by its configuration has the bundle once it got a first one, and follows rotations", async () => {
    const federating = await start([relationship()]);
    const api = federating.local.client(TrustDomainService);
    const failure = await failureOf(api.refreshBundle({ trustDomain: other }));
    expect([failure.code, failure.message]).toEqual([
      "INTERNAL",
      "failed to refresh bundle: can't perform SPIFFE Authentication: local copy of bundle not found",
    ]);
    await federating.server.registry.mutateBundle(other, () => foreign.server.bundle());
    await api.refreshBundle({ trustDomain: other });
    expect(federating.server.registry.bundles.get(other)?.refreshHint).toBe(120);
    // A client in between learns the new authority before the endpoint shows it.
    const foreignApi = foreign.local.client(LocalAuthorityService);
    const { preparedAuthority } = await foreignApi.prepareX509Authority({});
    await api.refreshBundle({ trustDomain: other });
    await foreignApi.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? "" });
    await api.refreshBundle({ trustDomain: other });
    expect(federating.server.registry.bundles.get(other)?.x509Authorities).toEqual(
      foreign.server.bundle().x509Authorities.map(({ der }) => ({ der: Buffer.from(der), tainted: false })),
    );
    // Relationships of the configuration are not among those of the API.
    expect((await api.listFederationRelationships(page)).federationRelationships).toEqual([]);
  });

  test("since a call fetches at once, with the bundle that came with the call", async () => {
    const federating = await start();
    const api = federating.local.client(TrustDomainService);
    const trustDomainBundle = {
      trustDomain: other,
      x509Authorities: foreign.server
        .bundle()
        .x509Authorities.map(({ der }) => ({ asn1: Buffer.from(der), tainted: false })),
    };
    const message = RelationshipMessage.fromPartial({
      trustDomain: other,
      bundleEndpointUrl: endpointUrl(),
      bundleEndpointProfile: { $case: "httpsSpiffe", value: { endpointSpiffeId: serverId(other) } },
      trustDomainBundle,
    });
    const created = await api.batchCreateFederationRelationship({
      federationRelationships: [message],
      outputMask: { bundleEndpointUrl: true, bundleEndpointProfile: false, trustDomainBundle: false },
    });
    expect(created.results).toEqual([
      {
        status: { code: 0, message: "OK" },
        federationRelationship: {
          trustDomain: other,
          bundleEndpointUrl: endpointUrl(),
          bundleEndpointProfile: undefined,
          trustDomainBundle: undefined,
        },
      },
    ]);
    await until(() => federating.server.registry.bundles.get(other)?.refreshHint === 120);
    const shown = await api.getFederationRelationship({ trustDomain: other, outputMask: undefined });
    expect(shown.trustDomainBundle?.refreshHint).toBe(120);

    const mask = { bundleEndpointUrl: true, bundleEndpointProfile: false, trustDomainBundle: false };
    const moved = { ...message, bundleEndpointUrl: "https://127.0.0.1:1/", trustDomainBundle: undefined };
    const web = { ...moved, bundleEndpointProfile: { $case: "httpsWeb" as const, value: {} } };
    await api.batchUpdateFederationRelationship({
      federationRelationships: [web],
      inputMask: mask,
      outputMask: undefined,
    });
    const updated = await api.getFederationRelationship({ trustDomain: other, outputMask: undefined });
    expect(updated.bundleEndpointUrl).toBe("https://127.0.0.1:1/");
    expect(updated.bundleEndpointProfile?.$case).toBe("httpsSpiffe");
    expect((await failureOf(api.refreshBundle({ trustDomain: other }))).message).toContain(
      "failed to fetch federated bundle from endpoint",
    );

    await api.batchDeleteFederationRelationship({ trustDomains: [other] });
    expect((await failureOf(api.refreshBundle({ trustDomain: other }))).code).toBe("NOT_FOUND");
    expect(federating.server.registry.bundles.has(other)).toBe(true);
  });

  test("does not with its own trust domain", async () => {
    const own = { ...relationship(), trustDomain: parseTrustDomain("example.org") };
    const federation = { federatesWith: [own] };
    expect((await failureOf(startTestServer({ federation }))).message).toContain("own trust domain");
  });
});

const page = { outputMask: undefined, pageSize: 0, pageToken: "" };
