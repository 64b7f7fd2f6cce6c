import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  until,
} from "../../../test/server/authority-fixture.ts";
import {
  createDomain,
  type ScriptedServer,
  serveScripted,
  type TestDomain,
} from "../../../test/server/endpoints.ts";
import type { FederationRelationship } from "../../core/federation.ts";
import { nullLogger } from "../../core/log.ts";
import { parseTrustDomain } from "../../core/spiffe-id.ts";
import { formatSpiffeBundle } from "../../core/trust-bundle.ts";
import { type BundleRefresh, pollInterval, startBundleRefresh } from "./refresh.ts";
import { createRelationships, type Relationships } from "./relationships.ts";

const trustDomain = parseTrustDomain("other.test");
const second = parseTrustDomain("second.test");

test("a bundle is fetched four times as often as its hint says", () => {
  expect(pollInterval({ refreshHint: 3_600 })).toBe(900_000);
  expect(pollInterval({ refreshHint: 300 })).toBe(75_000);
});

test("a hint below a minute counts as one, a missing one as five", () => {
  expect(pollInterval({ refreshHint: 1 })).toBe(15_000);
  expect(pollInterval({ refreshHint: 0 })).toBe(75_000);
});

test("without a bundle it is tried each minute", () => expect(pollInterval(undefined)).toBe(60_000));

describe("refreshes", () => {
  let fixture: AuthorityFixture;
  let domain: TestDomain;
  let server: ScriptedServer;
  let relationships: Relationships;
  let refresh: BundleRefresh | undefined;
  let status: string;
  let sequenceNumber: number;

  beforeEach(async () => {
    fixture = await createAuthorityFixture();
    relationships = createRelationships(fixture.registry);
    domain = await createDomain(trustDomain);
    status = "200 OK";
    sequenceNumber = 1;
    server = await serveScripted(await domain.identity("/endpoint", ["localhost"]), (socket) => {
      const body = formatSpiffeBundle({ ...domain.bundle, refreshHint: 400, sequenceNumber });
      socket.end(`HTTP/1.1 ${status}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    });
  });
  afterEach(async () => {
    await refresh?.stop();
    server.close();
    await fixture.close();
  });

  const web = (name = trustDomain, path = "/"): FederationRelationship => ({
    trustDomain: name,
    bundleEndpointUrl: `https://localhost:${server.port}${path}`,
    profile: { type: "https_web" },
  });
  const start = (configured: readonly FederationRelationship[]) => {
    refresh = startBundleRefresh({
      registry: fixture.registry,
      relationships,
      configured,
      clock: fixture.clock,
      log: nullLogger,
      webRoots: [domain.root],
    });
  };
  const storedSequence = () => fixture.registry.bundles.get(trustDomain)?.sequenceNumber;
  const asked = (count: number) => until(() => server.requests.length >= count);

  test("come at the start, and again after a quarter of the hint", async () => {
    start([web()]);
    await until(() => storedSequence() === 1);
    sequenceNumber = 2;
    await fixture.clock.advance(99_000);
    expect(server.requests).toHaveLength(1);
    await fixture.clock.advance(1_000);
    await until(() => storedSequence() === 2);
  });

  test("of a bundle that is the same write nothing", async () => {
    start([web()]);
    await until(() => storedSequence() === 1);
    const before = await fixture.registry.store.changes.latest();
    await refresh?.refresh(trustDomain);
    expect(await fixture.registry.store.changes.latest()).toBe(before);
  });

  test("that fail keep the bundle and come again at the next poll", async () => {
    start([web()]);
    await until(() => storedSequence() === 1);
    status = "500 Internal Server Error";
    await fixture.clock.advance(100_000);
    await asked(2);
    expect(storedSequence()).toBe(1);
    status = "200 OK";
    sequenceNumber = 3;
    await until(() => {
      void fixture.clock.advance(1_000);
      return storedSequence() === 3;
    });
  });

  test("follow relationships as they are created, changed and deleted", async () => {
    start([]);
    await relationships.create(web());
    await until(() => storedSequence() === 1);
    await relationships.update({
      trustDomain,
      bundleEndpointUrl: web(trustDomain, "/new").bundleEndpointUrl,
    });
    await asked(2);
    expect(server.requests[1]).toStartWith("GET /new ");
    await relationships.delete(trustDomain);
    expect(await refresh?.refresh(trustDomain)).toBe(false);
    await fixture.clock.advance(200_000);
    expect(server.requests).toHaveLength(2);
  });

  test("take up what another server stored within ten seconds", async () => {
    start([]);
    await fixture.clock.advance(1_000);
    await fixture.registry.store.federation.create(web());
    await fixture.clock.advance(10_000);
    await asked(1);
  });

  test("go by the configuration where it names the same trust domain", async () => {
    await relationships.create(web(trustDomain, "/stored"));
    await relationships.create(web(second, "/second"));
    start([web(trustDomain, "/configured")]);
    await asked(2);
    const paths = server.requests.map((request) => request.split(" ")[1]);
    expect(paths.sort()).toEqual(["/configured", "/second"]);
  });
});
