import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
  until,
} from "../../test/server/authority-fixture.ts";
import { unixSeconds } from "../core/clock.ts";
import { exportPublicKeyInfo } from "../core/keys.ts";
import { type Logger, nullLogger } from "../core/log.ts";
import { serverId } from "../core/spiffe-id.ts";
import type { Task } from "../core/tasks.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { parseCertificate, publicKeyOf } from "../core/x509/certificate.ts";
import { verifySvidChain } from "../core/x509/verify.ts";
import type { Authority } from "./authority.ts";
import { createServerIdentity, type ServerIdentity } from "./identity.ts";
import { authorityKinds } from "./journal.ts";
import { activateAt, prepareAt, startRotation, warnOfLongTtls } from "./rotation.ts";

const day = 24 * hour;

let fixture: AuthorityFixture;
let authority: Authority;
let identity: ServerIdentity;
let rotation: Task;

beforeEach(async () => {
  fixture = await createAuthorityFixture();
  authority = await fixture.open({ wit: { keyType: "ec-p256" } });
  const common = { authority, clock: fixture.clock, log: nullLogger };
  identity = await createServerIdentity({ ...common, keyType: "ec-p256" });
  rotation = startRotation(common);
});

afterEach(async () => {
  await rotation.stop();
  await identity.stop();
  await fixture.close();
});

const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const now = () => unixSeconds(fixture.clock);
const active = () => authority.state("x509", "active")?.authorityId;
const leaf = () => parseCertificate(identity.current().chain[0] ?? new Uint8Array());
const identityHolds = () =>
  leaf().notAfter > now() &&
  verifySvidChain(identity.current().chain, bundle(), now()).id === serverId(trustDomain);

/** Goes to a moment and past the next check of every task. */
async function goTo(seconds: number): Promise<void> {
  fixture.clock.jump(seconds * 1000 - fixture.clock.now());
  await fixture.clock.advance(10_000);
}

describe("the moments of a rotation", () => {
  test.each([
    ["a day", day, 12 * hour, 20 * hour],
    ["three minutes", 180, 90, 150],
    ["a year", 365 * day, 335 * day, 358 * day],
  ])("in a lifetime of %s", (_, lifetime, prepare, activate) => {
    const authority = { issuedAt: 1000, notAfter: 1000 + lifetime };
    expect(prepareAt(authority)).toBe(1000 + prepare);
    expect(activateAt(authority)).toBe(1000 + activate);
  });
});

describe("rotation", () => {
  test("leaves an authority alone in the first half of its life", async () => {
    const first = active();
    await goTo(startSeconds + 12 * hour - 30);
    await rotation.stop();
    expect(active()).toBe(first);
    expect(authority.state("x509", "prepared")).toBeUndefined();
    expect(bundle().x509Authorities).toHaveLength(1);
  });

  test("prepares at half life, activates at five sixths, each once", async () => {
    const first = active();
    await goTo(startSeconds + 12 * hour);
    await until(() => authorityKinds.every((kind) => authority.state(kind, "prepared")));
    expect(active()).toBe(first);
    expect(bundle().x509Authorities).toHaveLength(2);
    expect(bundle().jwtAuthorities).toHaveLength(2);
    expect(bundle().witAuthorities).toHaveLength(2);

    await goTo(startSeconds + 20 * hour - 60);
    expect(active()).toBe(first);
    await goTo(startSeconds + 20 * hour);
    await until(() => active() !== first);
    await until(() => authority.state("wit", "active")?.slot === "B");
    expect(authority.state("jwt", "active")?.slot).toBe("B");
    expect(authority.state("x509", "old")?.authorityId).toBe(String(first));
    expect(bundle().x509Authorities).toHaveLength(2);
  });

  test("goes on for as long as the server runs; what was just signed always verifies", async () => {
    const seen = new Set<string>();
    for (let seconds = startSeconds; seconds < startSeconds + 4 * day; seconds += 4 * hour) {
      await goTo(seconds);
      await rotation.stop();
      rotation = startRotation({ authority, clock: fixture.clock, log: nullLogger });
      const svid = await authority.signServerSvid(exportPublicKeyInfo(publicKeyOf(leaf())));
      expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(serverId(trustDomain));
      seen.add(svid.authorityId);
    }
    expect(seen.size).toBeGreaterThanOrEqual(4);
  });

  test.each([
    ["12 hours, with the authority still valid", 12 * hour],
    ["a week, past the end of everything", 7 * day],
  ])("recovers by itself when the clock jumps by %s", async (_, jump) => {
    await goTo(startSeconds + jump);
    await until(identityHolds);
    const svid = await authority.signServerSvid(exportPublicKeyInfo(publicKeyOf(leaf())));
    expect(verifySvidChain(svid.chain, bundle(), now()).id).toBe(serverId(trustDomain));
  });
});

describe("the server's own SVID", () => {
  const serial = () => leaf().serialNumber;

  test("is renewed past its half life, with a new key, and tells", async () => {
    const first = identity.current();
    let told = 0;
    identity.onChange(() => {
      told += 1;
    });
    await goTo(startSeconds + hour / 2 - 60);
    expect(identity.current()).toBe(first);
    await goTo(startSeconds + hour / 2);
    await until(() => told === 1);
    expect(identity.current().privateKey.equals(first.privateKey)).toBe(false);
    expect(identityHolds()).toBe(true);
  });

  test("follows the authority at once", async () => {
    const before = serial();
    await authority.prepare(["x509"]);
    await authority.activate(["x509"]);
    await until(() => serial() !== before);
    expect(identityHolds()).toBe(true);
  });
});

test("lifetimes that rotation would cut short are warned of, by name", () => {
  const warnings: string[] = [];
  const log: Logger = { ...nullLogger, warn: (message) => void warnings.push(message) };
  const lifetimes = { caTtlSeconds: day, defaultX509SvidTtlSeconds: hour, defaultJwtSvidTtlSeconds: 300 };
  warnOfLongTtls(lifetimes, log);
  expect(warnings).toEqual([]);
  warnOfLongTtls({ ...lifetimes, agentTtlSeconds: 4 * hour + 1 }, log);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toStartWith("agent_ttl is too high for the configured ca_ttl value");
});

test("the warning of a lifetime names what helps: a longer CA, a shorter lifetime, or both", () => {
  const warnings: string[] = [];
  const log: Logger = { ...nullLogger, warn: (message) => void warnings.push(message) };
  const warn = (caTtlSeconds: number, defaultX509SvidTtlSeconds: number) =>
    warnOfLongTtls({ caTtlSeconds, defaultX509SvidTtlSeconds, defaultJwtSvidTtlSeconds: 300 }, log);
  warn(day, 24 * hour);
  warn(day, 200 * hour);
  warn(2_000 * hour, 1_000 * hour);
  const sentence = "SVIDs with shorter lifetimes may be issued. Please set default_x509_svid_ttl to";
  const end = "to guarantee the full default_x509_svid_ttl lifetime when CA rotations are scheduled.";
  expect(warnings).toEqual([
    `default_x509_svid_ttl is too high for the configured ca_ttl value. ${sentence} 4h or less, or the ca_ttl to 144h or more, ${end}`,
    `default_x509_svid_ttl is too high and the ca_ttl is too low. ${sentence} 168h or less, and the ca_ttl to 1008h or more, ${end}`,
    `default_x509_svid_ttl is too high. ${sentence} 168h or less ${end}`,
  ]);
});
