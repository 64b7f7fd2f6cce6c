import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
  until,
} from "../../test/server/authority-fixture.ts";
import { nullLogger } from "../core/log.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { authorityKinds } from "./journal.ts";
import { pruneBundle, startBundlePruning, startJournalPruning } from "./pruning.ts";

let fixture: AuthorityFixture;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
});
afterEach(() => fixture.close());

const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const graceEnd = startSeconds + caTtl + 24 * hour;

/** A bundle with authorities from the start and from half a day later. */
async function twoGenerations() {
  const authority = await fixture.open({ wit: { keyType: "ec-p256" } });
  await authority.recover();
  fixture.clock.jump(12 * hour * 1000);
  await authority.prepare(authorityKinds);
  return bundle();
}

test("an authority leaves the bundle a day after its end", async () => {
  const full = await twoGenerations();
  expect(pruneBundle(full, graceEnd)).toBe(full);
  const pruned = pruneBundle(full, graceEnd + 1);
  expect(pruned.x509Authorities).toEqual(full.x509Authorities.slice(1));
  expect(pruned.jwtAuthorities).toEqual(full.jwtAuthorities.slice(1));
  expect(pruned.witAuthorities).toEqual(full.witAuthorities.slice(1));
  expect(full.witAuthorities).toHaveLength(2);
  expect(pruned.sequenceNumber).toBe(full.sequenceNumber + 1);
});

test("the last one to end stays, however long ago that was", async () => {
  const full = await twoGenerations();
  const pruned = pruneBundle(full, graceEnd + 1000 * hour);
  expect(pruned.x509Authorities).toEqual(full.x509Authorities.slice(1));
  expect(pruned.jwtAuthorities).toEqual(full.jwtAuthorities.slice(1));
});

test("a token authority without a stated end stays", () => {
  const key = { keyId: "k", publicKey: new Uint8Array(1), expiresAt: 0, tainted: false };
  const full = { ...emptyBundle(trustDomain), jwtAuthorities: [key] };
  expect(pruneBundle(full, graceEnd)).toBe(full);
});

test("the running server looks each six hours", async () => {
  const full = await twoGenerations();
  const task = startBundlePruning({ registry: fixture.registry, clock: fixture.clock, log: nullLogger });
  await fixture.clock.advance(0);
  expect(bundle()).toEqual(full);
  fixture.clock.jump(2 * caTtl * 1000);
  await fixture.clock.advance(6 * hour * 1000);
  await until(() => bundle().x509Authorities.length === 1);
  await task.stop();
});

describe("journals of servers", () => {
  const day = 24 * hour;
  const data = (notAfter: number) =>
    JSON.stringify({
      x509: [],
      jwt: [],
      wit: [
        { slot: "A", authorityId: "k", status: "active", issuedAt: 1, notAfter, der: "", upstreamChain: [] },
      ],
    });
  const put = (activeX509AuthorityId: string, text: string) =>
    fixture.registry.store.journals.put({ activeX509AuthorityId, data: text }, undefined);
  const ids = async () =>
    (await fixture.registry.store.journals.list()).map(({ activeX509AuthorityId: id }) => id).sort();

  test("whose authorities all ended 14 days ago go after eight hours, and nobody else's", async () => {
    const authority = await fixture.open();
    await authority.recover();
    const own = String(authority.state("x509", "active")?.authorityId);
    const end = startSeconds + 8 * hour - 14 * day;
    await put("gone", data(end - 1));
    await put("still", data(end));
    await put("damaged", "{");
    await put("empty", "{}");
    const lines: unknown[] = [];
    const log = { ...nullLogger, info: (message: string, fields = {}) => lines.push([message, fields]) };
    const task = startJournalPruning({ registry: fixture.registry, clock: fixture.clock, log });
    await fixture.clock.advance(8 * hour * 1000 - 1);
    expect(lines).toEqual([]);
    await fixture.clock.advance(1);
    await until(() => lines.length > 0);
    await task.stop();
    expect(lines).toEqual([["Pruned stale CA journal record", { local_authority_id: "gone" }]]);
    expect(await ids()).toEqual([own, "damaged", "empty", "still"].sort());
  });
});
