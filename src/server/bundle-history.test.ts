import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
} from "../../test/server/authority-fixture.ts";
import { failureOf } from "../../test/server/failure.ts";
import { nullLogger } from "../core/log.ts";
import { parseTrustDomain } from "../core/spiffe-id.ts";
import { emptyBundle, mergeBundles } from "../core/trust-bundle.ts";
import type { Authority } from "./authority.ts";
import { type BundleHistory, createBundleHistory } from "./bundle-history.ts";
import { createForcedRotation, type ForcedRotation } from "./forced-rotation.ts";
import { pruneBundle } from "./pruning.ts";

let fixture: AuthorityFixture;
let authority: Authority;
let rotation: ForcedRotation;
let history: BundleHistory;

/** Also as after a restart. */
async function open(): Promise<void> {
  authority = await fixture.open();
  await authority.recover();
  rotation = createForcedRotation(authority, nullLogger);
  const { registry, clock } = fixture;
  history = createBundleHistory({ registry, authority, clock, log: nullLogger });
}

beforeEach(async () => {
  fixture = await createAuthorityFixture();
  await open();
});
afterEach(() => fixture.close());

const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const active = () => String(authority.state("x509", "active")?.authorityId);

/** A new X.509 authority takes over from the old one. @returns the old one's ID. */
async function takeOver(): Promise<string> {
  const old = active();
  const { authorityId } = await rotation.prepare("x509");
  await rotation.activate("x509", authorityId);
  return old;
}

/** As above, and the old one is distrusted: the bundle's sequence numbers 2 to 4. */
async function revokeOld(): Promise<string> {
  const old = await takeOver();
  await rotation.taint("x509", old);
  await rotation.revoke("x509", old);
  return old;
}

const summaries = async () =>
  (await history.versions()).map(({ sequenceNumber, reason, changes }) => [
    sequenceNumber,
    reason,
    changes?.map(({ action, authority: { kind, authorityId } }) => `${action} ${kind} ${authorityId}`),
  ]);

describe("the history", () => {
  test("has each version with its time, its reason and what changed", async () => {
    const jwt = authority.state("jwt", "active")?.authorityId;
    fixture.clock.jump(hour * 1000);
    const old = await revokeOld();
    expect(await summaries()).toEqual([
      [1, "X509 CA, JWT key prepared", [`added x509 ${old}`, `added jwt ${jwt}`]],
      [2, "X509 CA prepared", [`added x509 ${active()}`]],
      [3, "X.509 authority tainted", [`tainted x509 ${old}`]],
      [4, "X.509 authority revoked", [`removed x509 ${old}`]],
    ]);
    const versions = await history.versions();
    expect(versions.map(({ recordedAt }) => recordedAt - startSeconds)).toEqual([0, hour, hour, hour]);
    expect(versions.map(({ isCurrent }) => isCurrent)).toEqual([false, false, false, true]);
    expect(versions[2]?.authorities).toMatchObject([
      { kind: "x509", authorityId: old, expiresAt: startSeconds + caTtl, tainted: true },
      { kind: "x509", authorityId: active(), expiresAt: startSeconds + hour + caTtl, tainted: false },
      { kind: "jwt", authorityId: String(jwt), expiresAt: startSeconds + caTtl, tainted: false },
    ]);
  });

  test("tells of what pruning took away", async () => {
    const old = await takeOver();
    fixture.clock.jump(12 * hour * 1000);
    await authority.prepare(["x509", "jwt"]);
    await fixture.registry.mutateBundle(
      trustDomain,
      (current) => pruneBundle(current ?? emptyBundle(trustDomain), startSeconds + 2 * caTtl + 1),
      "expired authorities pruned",
    );
    const [last] = (await summaries()).slice(-1);
    expect(last?.[1]).toBe("expired authorities pruned");
    expect(last?.[2]).toContain(`removed x509 ${old}`);
  });

  test("begins with the bundle as it stands where a database is older than the history", async () => {
    const before = { ...bundle(), sequenceNumber: 40 };
    const { bundles } = fixture.registry.store;
    await bundles.delete(trustDomain, "restrict");
    await bundles.mutate(trustDomain, () => before);
    await fixture.registry.catchUp();
    const [first] = await history.versions();
    expect(first).toMatchObject({ sequenceNumber: 40, recordedAt: 0, reason: "", isCurrent: true });
    expect(first?.changes).toBeUndefined();
    expect(first?.authorities).toHaveLength(2);
    await takeOver();
    const versions = await history.versions();
    expect(versions.map(({ sequenceNumber }) => sequenceNumber)).toEqual([40, 41]);
    expect(versions[1]?.changes).toMatchObject([{ action: "added", authority: { authorityId: active() } }]);
    expect((await history.restore(40)).restored).toEqual([]);
  });

  test("has nothing of other trust domains", async () => {
    const other = parseTrustDomain("other.test");
    await fixture.registry.mutateBundle(other, () => ({ ...emptyBundle(other), sequenceNumber: 9 }));
    expect(await history.versions()).toHaveLength(1);
  });
});

describe("a restoration", () => {
  test("brings a revoked authority back as it stood, under a new sequence number", async () => {
    const old = await revokeOld();
    const lost = bundle();
    const { restored, sequenceNumber, stillTainted } = await history.restore(2);
    expect(restored).toEqual([
      {
        kind: "x509",
        authorityId: old,
        expiresAt: startSeconds + caTtl,
        tainted: false,
        isExpired: false,
        wasTainted: true,
        isHeld: true,
      },
    ]);
    expect(stillTainted).toEqual([]);
    expect(sequenceNumber).toBe(5);
    expect(bundle().sequenceNumber).toBe(5);
    expect(bundle().x509Authorities).toHaveLength(2);
    expect(mergeBundles(bundle(), lost)).toBe(bundle());
    expect((await summaries()).at(-1)).toEqual([5, "restored from sequence number 2", [`added x509 ${old}`]]);
  });

  test("from a version in which the authority was tainted brings it back tainted", async () => {
    const old = await revokeOld();
    const { restored } = await history.restore(3);
    expect(restored).toMatchObject([{ authorityId: old, tainted: true, wasTainted: false }]);
    expect(bundle().x509Authorities.map(({ tainted }) => tainted)).toEqual([false, true]);
  });

  test("lifts no taint from what is there, and says so", async () => {
    const old = await takeOver();
    await rotation.taint("x509", old);
    const before = bundle();
    const { restored, stillTainted, sequenceNumber } = await history.restore(2);
    expect(restored).toEqual([]);
    expect(stillTainted).toMatchObject([{ kind: "x509", authorityId: old, tainted: true }]);
    expect(sequenceNumber).toBe(before.sequenceNumber);
    expect(bundle()).toEqual(before);
  });

  test("brings back keys of tokens, too", async () => {
    const old = String(authority.state("jwt", "active")?.authorityId);
    const { authorityId } = await rotation.prepare("jwt");
    await rotation.activate("jwt", authorityId);
    await rotation.taint("jwt", old);
    await rotation.revoke("jwt", old);
    const { restored } = await history.restore(2);
    expect(restored).toMatchObject([{ kind: "jwt", authorityId: old, tainted: false, isHeld: true }]);
    expect(bundle().jwtAuthorities.map(({ keyId }) => keyId)).toEqual([authorityId, old]);
  });

  test("after a restart, too, gives the server its old authority back: it can be revoked again", async () => {
    const old = await revokeOld();
    const signing = active();
    await open();
    expect(authority.state("x509", "old")).toBeUndefined();
    expect(active()).toBe(signing);
    const { restored } = await history.restore(2);
    expect(restored).toMatchObject([{ authorityId: old, isHeld: true }]);
    expect(authority.state("x509", "old")?.authorityId).toBe(old);
    expect(active()).toBe(signing);
    await rotation.taint("x509", old);
    await rotation.revoke("x509", old);
    expect(bundle().x509Authorities).toHaveLength(1);
  });

  test("of an authority whose key was replaced makes it verify only", async () => {
    const old = await revokeOld();
    await takeOver();
    const { restored } = await history.restore(1);
    expect(restored).toMatchObject([{ authorityId: old, isHeld: false }]);
    expect(authority.state("x509", "old")?.authorityId).not.toBe(old);
  });

  test("says what is expired", async () => {
    const old = await revokeOld();
    fixture.clock.jump(caTtl * 1000);
    const { restored } = await history.restore(2);
    expect(restored).toMatchObject([{ authorityId: old, isExpired: true }]);
  });

  test("of an unknown version is refused, with those that there are", async () => {
    await takeOver();
    const failure = await failureOf(history.restore(7));
    expect(failure).toMatchObject({
      code: "NOT_FOUND",
      message: "version 7 of the bundle is not kept; those from 1 to 2 are",
    });
    expect(bundle().sequenceNumber).toBe(2);
  });

  test("twice changes nothing the second time", async () => {
    await revokeOld();
    await history.restore(2);
    const before = bundle();
    expect(await history.restore(2)).toMatchObject({ restored: [], sequenceNumber: 5 });
    expect(bundle()).toEqual(before);
  });

  test("waits for a rotation under way", async () => {
    await revokeOld();
    const preparing = rotation.prepare("x509");
    const [, { sequenceNumber }] = await Promise.all([preparing, history.restore(2)]);
    expect(sequenceNumber).toBe(6);
  });
});
