/** What every upstream authority must do, as tests to run against each instance. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { exportPublicKeyInfo, generateKey, type LocalKey } from "../../src/core/keys.ts";
import { makeSpiffeId, parseTrustDomain, trustDomainId } from "../../src/core/spiffe-id.ts";
import type { TokenAuthority } from "../../src/core/trust-bundle.ts";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { createCertificateRequest } from "../../src/core/x509/csr.ts";
import { createIssuer, issueWorkloadSvid, requestedCaSubject } from "../../src/core/x509/issue.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import type { UpstreamAuthority, UpstreamBundle } from "../../src/plugins/upstream-authorities/index.ts";
import { failureOf } from "../server/failure.ts";

const trustDomain = parseTrustDomain("example.org");
const hour = 3_600;

/** An upstream authority of trust domain example.org, with what a test does to it. */
export interface UpstreamFixture {
  readonly upstream: UpstreamAuthority;
  /** Unix seconds. */
  now(): number;
  /** Another root is published, beside those that there are; returns it, DER. Ends what waits for changes. */
  addRoot(): Promise<Uint8Array>;
  close(): Promise<void>;
}

const csrOf = (key: LocalKey, uri = trustDomainId(trustDomain)): Promise<Uint8Array> =>
  createCertificateRequest({ key, uri, subjectDer: requestedCaSubject(undefined) });

const jwtKey = async (keyId: string, expiresAt: number): Promise<TokenAuthority> => ({
  keyId,
  publicKey: exportPublicKeyInfo((await generateKey("ec-p256")).publicKey),
  expiresAt,
  tainted: false,
});

const rootsIn = (result: IteratorResult<UpstreamBundle, unknown> | undefined): string[] =>
  result && !result.done ? result.value.x509Authorities.map(({ der }) => hex(der)) : [];

const hex = (der: Uint8Array): string => Buffer.from(der).toString("hex");

/** The optional powers of an upstream authority. */
export interface UpstreamPowers {
  readonly publishesKeys: boolean;
  readonly tellsOfChanges: boolean;
}

export function upstreamAuthorityContract(
  name: string,
  { publishesKeys, tellsOfChanges }: UpstreamPowers,
  create: () => Promise<UpstreamFixture>,
): void {
  describe(`upstream authority contract: ${name}`, () => {
    let fixture: UpstreamFixture;
    let upstream: UpstreamAuthority;
    beforeEach(async () => {
      fixture = await create();
      upstream = fixture.upstream;
    });
    afterEach(() => fixture.close());

    test("signs a CA whose SVIDs hold for everybody who has the roots", async () => {
      const key = await generateKey("ec-p256");
      const { chain, roots } = await upstream.mint(await csrOf(key), hour);
      const [ca] = chain;
      const issuer = createIssuer(key, ca ?? new Uint8Array(), chain);
      const spiffeId = makeSpiffeId(trustDomain, "/web");
      const publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
      const request = { spiffeId, publicKeyInfo, ttlSeconds: 60, dnsNames: [] };
      const { der } = await issueWorkloadSvid(issuer, request, fixture.now());
      const verified = verifySvidChain(
        [der, ...chain],
        { x509Authorities: roots, trustDomain },
        fixture.now(),
      );
      expect(verified.id).toBe(spiffeId);
    });

    test("signs for the key and the trust domain of the request, and no longer than asked", async () => {
      const key = await generateKey("ec-p384");
      const { chain } = await upstream.mint(await csrOf(key), hour);
      const ca = parseCertificate(chain[0] ?? new Uint8Array());
      expect(hex(ca.publicKeyInfo)).toBe(hex(exportPublicKeyInfo(key.publicKey)));
      expect(ca.uris).toEqual([trustDomainId(trustDomain)]);
      expect(ca.isCa).toBe(true);
      expect(ca.notAfter).toBeLessThanOrEqual(fixture.now() + hour);
    });

    test("gives each CA a serial number of its own", async () => {
      const csr = await csrOf(await generateKey("ec-p256"));
      const minted = [await upstream.mint(csr, hour), await upstream.mint(csr, hour)];
      const serials = minted.map(({ chain }) => parseCertificate(chain[0] ?? new Uint8Array()).serialNumber);
      expect(new Set(serials).size).toBe(2);
    });

    test("refuses a request whose signature is not by its own key", async () => {
      const csr = Buffer.from(await csrOf(await generateKey("ec-p256")));
      csr.writeUInt8(csr.readUInt8(csr.length - 1) ^ 1, csr.length - 1);
      expect((await failureOf(upstream.mint(csr, hour))).code).toBe("INVALID_ARGUMENT");
    });

    test("tells of a new root with the next CA", async () => {
      const key = await generateKey("ec-p256");
      const before = await upstream.mint(await csrOf(key), hour);
      const added = hex(await fixture.addRoot());
      const after = await upstream.mint(await csrOf(key), hour);
      const known = before.roots.map(({ der }) => hex(der));
      expect(known).not.toContain(added);
      expect(after.roots.map(({ der }) => hex(der)).sort()).toEqual([...known, added].sort());
    });

    test("has the powers that it is said to have", () => {
      expect(upstream.publishJwtKey !== undefined).toBe(publishesKeys);
      expect(upstream.updates !== undefined).toBe(tellsOfChanges);
    });

    if (publishesKeys) {
      test("publishes keys of JWT-SVIDs beside those that are published", async () => {
        const { signal } = new AbortController();
        const first = await jwtKey("first", fixture.now() + hour);
        await upstream.publishJwtKey?.(first, signal);
        const second = await jwtKey("second", fixture.now() + hour);
        const published = (await upstream.publishJwtKey?.(second, signal)) ?? [];
        expect(published.map(({ keyId }) => keyId)).toEqual(expect.arrayContaining(["first", "second"]));
        const found = published.find(({ keyId }) => keyId === "first");
        expect(hex(found?.publicKey ?? new Uint8Array())).toBe(hex(first.publicKey));
        expect(found?.expiresAt).toBe(first.expiresAt);
      });
    }

    if (tellsOfChanges) {
      test("tells of its bundle, then of each change, until it is told to stop", async () => {
        const stop = new AbortController();
        const updates = upstream.updates?.(stop.signal)[Symbol.asyncIterator]();
        const first = await updates?.next();
        const next = updates?.next();
        const added = hex(await fixture.addRoot());
        const second = await next;
        expect(rootsIn(first)).not.toContain(added);
        expect(rootsIn(second)).toEqual([...rootsIn(first), added]);
        const last = updates?.next();
        stop.abort();
        expect((await last)?.done).toBe(true);
      });
    }

    test("closes more than once", async () => {
      await upstream.close();
      await upstream.close();
    });
  });
}
