/** WIT-SVIDs and their authorities, and a server that begins or ceases to issue them. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
} from "../../test/server/authority-fixture.ts";
import { unixSeconds } from "../core/clock.ts";
import { decodeJwtSvid } from "../core/jwt-svid.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { verifyWitSvid } from "../core/wit-svid.ts";
import type { Authority, SignedToken, WitRequest } from "./authority.ts";

const web = makeSpiffeId(trustDomain, "/web");
const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const request: WitRequest = {
  spiffeId: web,
  confirmation: { publicKey, algorithm: "ES256" },
  ttlSeconds: 0,
};

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
const on = { wit: { keyType: "ec-p256" } } as const;

async function sign(authority: Authority, fields: Partial<WitRequest> = {}): Promise<SignedToken> {
  if (!authority.signWitSvid) throw new Error("the authority issues no WIT-SVIDs");
  return authority.signWitSvid({ ...request, ...fields });
}

const verify = ({ token }: SignedToken) =>
  verifyWitSvid(token, (_, keyId) => bundle().witAuthorities.find((key) => key.keyId === keyId), now());

test("a server that is not told to issues none, and makes no authority for them", async () => {
  const authority = await start();
  expect(authority.signWitSvid).toBeUndefined();
  expect(authority.state("wit", "active")).toBeUndefined();
  expect(bundle().witAuthorities).toEqual([]);
  expect((await fixture.keyManager.list()).map(({ id }) => id).sort()).toEqual(["JWT-Signer-A", "x509-CA-A"]);
});

describe("a server that issues them", () => {
  test("has an authority for them, in the bundle and under SPIRE's key ID", async () => {
    const authority = await start(on);
    const active = authority.state("wit", "active");
    expect(active).toMatchObject({ slot: "A", issuedAt: startSeconds, notAfter: startSeconds + caTtl });
    expect(bundle().witAuthorities).toMatchObject([
      { keyId: active?.authorityId, expiresAt: startSeconds + caTtl, tainted: false },
    ]);
    expect((await fixture.keyManager.list()).map(({ id }) => id)).toContain("WIT-Signer-A");
    const signed = await sign(authority);
    expect(signed).toMatchObject({ issuedAt: now(), expiresAt: now() + hour });
    expect(verify(signed)).toMatchObject({ spiffeId: web, keyId: active?.authorityId });
  });

  test("signs by the key type and in the name that it is told", async () => {
    const authority = await start({ wit: { keyType: "ec-p384", issuer: "https://issuer.example" } });
    const signed = await sign(authority, { ttlSeconds: 60 });
    const { header, claims } = decodeJwtSvid(signed.token);
    expect(header["alg"]).toBe("ES384");
    expect(claims).toMatchObject({ iss: "https://issuer.example", exp: now() + 60 });
  });

  test("cuts lifetimes to what is left of the authority", async () => {
    const authority = await start(on);
    fixture.clock.jump((caTtl - 100) * 1000);
    expect((await sign(authority)).expiresAt).toBe(startSeconds + caTtl);
  });

  test("goes on with the same authority after a restart", async () => {
    const before = (await start(on)).state("wit", "active")?.authorityId;
    expect((await start(on)).state("wit", "active")?.authorityId).toBe(String(before));
    expect(bundle().witAuthorities).toHaveLength(1);
  });
});

describe("a server that was there before", () => {
  test("begins to issue them, beside the authorities that it has", async () => {
    const before = await start();
    const after = await start(on);
    expect(after.state("x509", "active")?.authorityId).toBe(
      String(before.state("x509", "active")?.authorityId),
    );
    expect(verify(await sign(after)).spiffeId).toBe(web);
    expect(bundle().x509Authorities).toHaveLength(1);
    expect((await start(on)).state("wit", "active")?.authorityId).toBe(
      String(after.state("wit", "active")?.authorityId),
    );
  });

  test("ceases to, and what it issued holds on", async () => {
    const issuing = await start(on);
    const signed = await sign(issuing);
    const after = await start();
    await after.prepare(["x509", "jwt", "wit"]);
    await after.activate(["x509", "jwt", "wit"]);
    expect(after.signWitSvid).toBeUndefined();
    expect(after.state("wit", "active")).toBeUndefined();
    expect(verify(signed).spiffeId).toBe(web);
  });

  test("takes its authority up again after it had ceased, while that holds; makes another later", async () => {
    const first = (await start(on)).state("wit", "active")?.authorityId;
    const between = await start();
    await between.prepare(["x509"]);
    await between.activate(["x509"]);
    expect((await start(on)).state("wit", "active")?.authorityId).toBe(String(first));
    await start();
    fixture.clock.jump(2 * caTtl * 1000);
    const later = await start(on);
    expect(later.state("wit", "active")?.authorityId).not.toBe(String(first));
    expect(verify(await sign(later)).spiffeId).toBe(web);
  });
});
