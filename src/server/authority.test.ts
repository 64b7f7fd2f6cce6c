import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
} from "../../test/server/authority-fixture.ts";
import { failureOf } from "../../test/server/failure.ts";
import { unixSeconds } from "../core/clock.ts";
import { decodeJwtSvid, verifyJwtSvid } from "../core/jwt-svid.ts";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import { verifySvidChain } from "../core/x509/verify.ts";
import { createMemoryKeyManager } from "../plugins/key-managers/memory.ts";
import type { Authority } from "./authority.ts";
import { authorityKinds } from "./journal.ts";

const web = makeSpiffeId(trustDomain, "/web");
let publicKeyInfo: Uint8Array;
beforeAll(async () => {
  publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
});

let fixture: AuthorityFixture;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
});
afterEach(() => fixture.close());

const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const now = () => unixSeconds(fixture.clock);

async function start(...overrides: Parameters<AuthorityFixture["open"]>): Promise<Authority> {
  const authority = await fixture.open(...overrides);
  await authority.recover();
  return authority;
}

const workload = (ttlSeconds: number) => ({ spiffeId: web, publicKeyInfo, dnsNames: [], ttlSeconds });
const token = { spiffeId: web, audience: ["a"], ttlSeconds: 0, withId: false };

describe("the first start", () => {
  test("makes and publishes one authority of each kind, in slot A", async () => {
    const authority = await start();
    const x509 = authority.state("x509", "active");
    const jwt = authority.state("jwt", "active");
    expect(x509).toMatchObject({ slot: "A", issuedAt: startSeconds, notAfter: startSeconds + caTtl });
    expect(jwt).toMatchObject({ slot: "A", issuedAt: startSeconds, notAfter: startSeconds + caTtl });
    expect(bundle().x509Authorities.map(({ der }) => authorityId(parseCertificate(der)))).toEqual([
      String(x509?.authorityId),
    ]);
    expect(bundle().jwtAuthorities).toMatchObject([
      { keyId: jwt?.authorityId, expiresAt: startSeconds + caTtl, tainted: false },
    ]);
    expect(jwt?.authorityId).toMatch(/^[a-zA-Z0-9]{32}$/);
  });

  test("done twice at the same time, makes them once", async () => {
    const authority = await fixture.open();
    await Promise.all([authority.recover(), authority.recover(), authority.signServerSvid(publicKeyInfo)]);
    expect(bundle().x509Authorities).toHaveLength(1);
    expect(bundle().jwtAuthorities).toHaveLength(1);
  });
});

describe("a restart", () => {
  test("with its keys goes on with the same authorities, prepared ones included", async () => {
    const before = await start();
    await before.prepare(authorityKinds);
    const after = await start();
    for (const kind of authorityKinds) {
      for (const status of ["active", "prepared"] as const) {
        expect(after.state(kind, status)?.authorityId).toBe(before.state(kind, status)?.authorityId);
      }
    }
    expect(bundle().x509Authorities).toHaveLength(2);
    const svid = await after.signWorkloadSvid(workload(0));
    expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(web);
  });

  test("after an activation knows the old one and finds its journal again", async () => {
    const before = await start();
    await before.prepare(authorityKinds);
    await before.activate(authorityKinds);
    const after = await start();
    expect(after.state("x509", "active")?.slot).toBe("B");
    expect(after.state("x509", "old")?.authorityId).toBe(before.state("x509", "old")?.authorityId);
    expect(after.state("jwt", "active")?.authorityId).toBe(before.state("jwt", "active")?.authorityId);
  });

  test("without its keys makes new ones, and what the old ones signed still verifies", async () => {
    const before = await start();
    const svid = await before.signWorkloadSvid(workload(0));
    const after = await start({ keyManager: createMemoryKeyManager() });
    expect(after.state("x509", "active")?.authorityId).not.toBe(before.state("x509", "active")?.authorityId);
    expect(bundle().x509Authorities).toHaveLength(2);
    expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(web);
  });

  test("doesn't go on with an authority that the bundle lost", async () => {
    const before = await start();
    await fixture.registry.mutateBundle(trustDomain, (current) => ({
      ...(current ?? emptyBundle(trustDomain)),
      x509Authorities: [],
    }));
    const after = await start();
    expect(after.state("x509", "active")?.authorityId).not.toBe(before.state("x509", "active")?.authorityId);
    expect(after.state("jwt", "active")?.authorityId).toBe(before.state("jwt", "active")?.authorityId);
  });

  test("with a journal that can't be read makes new authorities", async () => {
    const before = await start();
    const active = String(before.state("x509", "active")?.authorityId);
    const { journals } = fixture.registry.store;
    await journals.put({ activeX509AuthorityId: active, data: "{" }, active);
    const after = await start();
    expect(after.state("x509", "active")?.authorityId).not.toBe(active);
  });

  test("after any outage begins with authorities that are valid", async () => {
    await start();
    fixture.clock.jump(100 * caTtl * 1000);
    const after = await start();
    const svid = await after.signWorkloadSvid(workload(0));
    expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(web);
  });
});

describe("the next authority", () => {
  test("is published when it is prepared and signs when it is activated", async () => {
    const authority = await start();
    const first = authority.state("x509", "active")?.authorityId;
    await authority.prepare(["x509"]);
    expect(bundle().x509Authorities).toHaveLength(2);
    expect((await authority.signWorkloadSvid(workload(0))).authorityId).toBe(String(first));
    let told = 0;
    authority.onActivated(() => {
      told += 1;
    });
    await authority.activate(["x509"]);
    expect(told).toBe(1);
    const svid = await authority.signWorkloadSvid(workload(0));
    expect(svid.authorityId).toBe(String(authority.state("x509", "active")?.authorityId));
    expect(svid.authorityId).not.toBe(String(first));
    expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(web);
  });

  test("has to be prepared before it is activated", async () => {
    const authority = await start();
    expect(await failureOf(authority.activate(["x509"]))).toMatchObject({ code: "FAILED_PRECONDITION" });
  });

  test("changes slots each time, and the journal keeps the last ten of a kind", async () => {
    const authority = await start();
    for (let round = 0; round < 12; round += 1) {
      await authority.prepare(["x509"]);
      await authority.activate(["x509"]);
      expect(authority.state("x509", "active")?.slot).toBe(round % 2 === 0 ? "B" : "A");
    }
    const active = String(authority.state("x509", "active")?.authorityId);
    const record = await fixture.registry.store.journals.find([active]);
    const journal: { x509: unknown[]; jwt: unknown[] } = JSON.parse(record?.data ?? "{}");
    expect(journal.x509).toHaveLength(10);
    expect(journal.jwt).toHaveLength(1);
  });
});

describe("lifetimes", () => {
  test.each([
    ["the default for 0", 0, hour],
    ["the default below 0", -5, hour],
    ["what is asked for", 600, 600],
    ["no longer than the authority", 2 ** 31 - 1, caTtl],
  ])("of workload SVIDs are %s", async (_, asked, granted) => {
    const authority = await start();
    const { notBefore, notAfter } = await authority.signWorkloadSvid(workload(asked));
    expect(notAfter).toBe(startSeconds + granted);
    expect(notBefore).toBe(startSeconds - 10);
  });

  test("of agents, downstream CAs and tokens are their own", async () => {
    const authority = await start();
    const agent = await authority.signAgentSvid(makeSpiffeId(trustDomain, "/spire/agent/a/b"), publicKeyInfo);
    expect(agent.notAfter).toBe(startSeconds + 2 * hour);
    expect((await authority.signDownstreamCa(publicKeyInfo, 0)).notAfter).toBe(startSeconds + caTtl);
    expect((await authority.signDownstreamCa(publicKeyInfo, 60)).notAfter).toBe(startSeconds + 60);
    expect((await authority.signJwtSvid(token)).expiresAt).toBe(startSeconds + 300);
    const long = await authority.signJwtSvid({ ...token, ttlSeconds: 2 ** 31 - 1 });
    expect(long.expiresAt).toBe(startSeconds + caTtl);
  });
});

describe("JWT-SVIDs", () => {
  test("verify by the bundle, without empty audiences, with an ID when asked for", async () => {
    const authority = await start({ jwtIssuer: "https://issuer.test" });
    const signed = await authority.signJwtSvid({ ...token, audience: ["a", "", "b"], withId: true });
    const find = (_: unknown, keyId: string) => bundle().jwtAuthorities.find((key) => key.keyId === keyId);
    const verified = await verifyJwtSvid(signed.token, find, "b", now());
    expect(verified.spiffeId).toBe(web);
    expect(verified.claims).toMatchObject({ aud: ["a", "b"], iss: "https://issuer.test", iat: startSeconds });
    expect(decodeJwtSvid(signed.token).claims["jti"]).toBeString();
    expect(decodeJwtSvid((await authority.signJwtSvid(token)).token).claims).not.toHaveProperty("jti");
  });

  test("need an audience", async () => {
    const authority = await start();
    const refused = authority.signJwtSvid({ ...token, audience: ["", ""] });
    expect((await failureOf(refused)).message).toContain("invalid JWT-SVID audience: cannot be empty");
  });
});

test("signing after the end of every authority makes new ones first", async () => {
  const authority = await start();
  fixture.clock.jump(2 * caTtl * 1000);
  const [svid, jwt] = await Promise.all([
    authority.signWorkloadSvid(workload(0)),
    authority.signJwtSvid(token),
  ]);
  expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(web);
  expect(jwt.expiresAt).toBe(now() + 300);
  expect(bundle().x509Authorities).toHaveLength(2);
});
