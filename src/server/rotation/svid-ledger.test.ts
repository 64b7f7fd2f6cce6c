import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
} from "../../../test/server/authority-fixture.ts";
import { failureOf } from "../../../test/server/failure.ts";
import { SpireError } from "../../core/errors.ts";
import { exportPublicKeyInfo, generateKey } from "../../core/keys.ts";
import { nullLogger } from "../../core/log.ts";
import { makeSpiffeId, type SpiffeId } from "../../core/spiffe-id.ts";
import type { Registry } from "../registry.ts";
import { recordSignings } from "./recorded-authority.ts";
import { createSvidLedger, type SvidLedger } from "./svid-ledger.ts";

const agent = makeSpiffeId(trustDomain, "/spire/agent/a");
const other = makeSpiffeId(trustDomain, "/spire/agent/b");
const end = startSeconds + hour;
const never = { svids: 0, until: 0 };

let fixture: AuthorityFixture;
let ledgers: SvidLedger[];
let entries: readonly string[];
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  ledgers = [];
  for (const id of [agent, other]) await addAgent(id);
  entries = await Promise.all([1, 2].map((number) => addEntry(agent, `/w${number}`)));
});
afterEach(async () => {
  for (const ledger of ledgers) await ledger.close();
  await fixture.close();
});

/** A new one on the same store, as after a crash. */
async function open(registry: Registry = fixture.registry): Promise<SvidLedger> {
  const ledger = await createSvidLedger({ registry, clock: fixture.clock, log: nullLogger });
  ledgers.push(ledger);
  return ledger;
}

const addAgent = (id: SpiffeId) =>
  fixture.registry.putNode({
    id,
    attestationType: "t",
    serialNumber: "1",
    expiresAt: end,
    newSerialNumber: "",
    newExpiresAt: 0,
    canReattest: false,
    agentVersion: "",
    selectors: [],
  });

async function addEntry(parentId: SpiffeId, path: string): Promise<string> {
  const [outcome] = await fixture.registry.createEntries([
    {
      id: "",
      spiffeId: makeSpiffeId(trustDomain, path),
      parentId,
      selectors: [{ type: "t", value: path }],
      x509SvidTtl: 0,
      jwtSvidTtl: 0,
      federatesWith: [],
      admin: false,
      downstream: false,
      expiresAt: 0,
      dnsNames: [],
      storeSvid: false,
      hint: "",
      disableX509SvidPrefetch: false,
      jwtSvidIncludeJti: false,
    },
  ]);
  if (!outcome || "error" in outcome) throw outcome?.error ?? new Error("no outcome");
  return outcome.entry.id;
}

const entry = (number: 1 | 2): string => entries[number - 1] ?? "";

const sign = (ledger: SvidLedger, authorityId: string, entryId: string, expiresAt = end) =>
  ledger.signed(authorityId, "workloads", expiresAt, { agent, entryId });

describe("what an agent's workloads hold of an authority", () => {
  test("is what it signed for them, until another takes its place at the agent", async () => {
    const ledger = await open();
    await sign(ledger, "old", entry(1));
    await sign(ledger, "old", entry(2), end + 1);
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 2, until: end + 1 });
    expect([ledger.pending(agent, ["new"]), ledger.pending(other, ["old"])]).toEqual([never, never]);
    await sign(ledger, "new", entry(2));
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 2, until: end + 1 });
    expect(ledger.awaitsDelivery(agent)).toBe(true);
    ledger.delivered(agent, [{ entryId: entry(2), authorityId: "new" }]);
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 1, until: end });
    expect(ledger.pending(agent, ["old", "new"]).svids).toBe(2);
  });

  test("is nothing once it has expired, or the agent has lost the entry, or the agent is gone", async () => {
    const ledger = await open();
    await sign(ledger, "old", entry(1));
    await sign(ledger, "old", entry(2), end + hour);
    await fixture.registry.deleteEntries([entry(2)]);
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 1, until: end });
    fixture.clock.jump(hour * 1000);
    expect(ledger.pending(agent, ["old"])).toEqual(never);
    await sign(ledger, "old", entry(1), end + hour);
    expect(ledger.pending(agent, ["old"]).svids).toBe(1);
    await fixture.registry.deleteAgent(agent);
    await addAgent(agent);
    expect(ledger.pending(agent, ["old"])).toEqual(never);
  });

  test("needs no word from the agent while one authority signs all", async () => {
    const ledger = await open();
    await sign(ledger, "old", entry(1));
    await sign(ledger, "old", entry(2));
    expect(ledger.awaitsDelivery(agent)).toBe(false);
  });
});

describe("after a crash", () => {
  test("every entry of an agent is taken to have an SVID, until it gets another or all must have ended", async () => {
    await sign(await open(), "old", entry(1));
    const ledger = await open();
    // A minute more is written down than was needed.
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 2, until: end + 60 });
    expect(ledger.pending(other, ["old"])).toEqual(never);
    expect(ledger.awaitsDelivery(other)).toBe(true);
    await sign(ledger, "new", entry(2));
    ledger.delivered(agent, [{ entryId: entry(2), authorityId: "new" }]);
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 1, until: end + 60 });
    fixture.clock.jump((hour + 60) * 1000);
    expect([ledger.pending(agent, ["old"]), ledger.awaitsDelivery(other)]).toEqual([never, false]);
  });

  test("an SVID of the old authority that is signed anew is known for what it is", async () => {
    await sign(await open(), "old", entry(1), end + hour);
    const ledger = await open();
    await sign(ledger, "old", entry(1), startSeconds + 10);
    ledger.delivered(agent, [{ entryId: entry(1), authorityId: "old" }]);
    fixture.clock.jump(11_000);
    expect(ledger.pending(agent, ["old"])).toEqual({ svids: 1, until: end + hour + 60 });
    ledger.delivered(agent, [{ entryId: entry(2), authorityId: "new" }]);
    expect(ledger.pending(agent, ["old"])).toEqual(never);
  });

  test("it is known until when anything lives that was handed out, by a write a minute", async () => {
    const writes: number[] = [];
    const { registry } = fixture;
    const svidHorizons = {
      ...registry.store.svidHorizons,
      raise: (horizon: { authorityId: string; holders: string; expiresAt: number }) => {
        writes.push(horizon.expiresAt);
        return registry.store.svidHorizons.raise(horizon);
      },
    };
    const ledger = await open({ ...registry, store: { ...registry.store, svidHorizons } });
    writes.length = 0;
    for (let second = 0; second < 180; second += 1) {
      for (let call = 0; call < 5; call += 1) await sign(ledger, "old", entry(1), end + second);
    }
    expect(writes).toEqual([end + 60, end + 61 + 60, end + 122 + 60]);
    const next = await open();
    expect(next.horizon("old", "workloads")).toBe(end + 182);
    expect([next.horizon("old", "minted"), next.horizon("new", "workloads")]).toEqual([0, 0]);
  });

  test("nothing is handed out before that is written down, except when it can't be", async () => {
    const { registry } = fixture;
    const writing = Promise.withResolvers<void>();
    const svidHorizons = { ...registry.store.svidHorizons, raise: () => writing.promise };
    const opened = { ...registry, store: { ...registry.store, svidHorizons } };
    await (await open()).close();
    const ledger = await open(opened);
    let isOut = false;
    const out = sign(ledger, "old", entry(1))?.then(() => {
      isOut = true;
    });
    await fixture.clock.advance(1);
    expect(isOut).toBe(false);
    writing.reject(new SpireError("RESOURCE_EXHAUSTED", "the disk is full"));
    await out;
    expect(isOut).toBe(true);
  });
});

test("a database that can't tell takes all authorities that it has to have signed for everybody to their end", async () => {
  const authority = await fixture.open();
  await authority.recover();
  const [x509, jwt] = [authority.state("x509", "active"), authority.state("jwt", "active")];
  const ledger = await open();
  for (const made of [x509, jwt]) {
    for (const holders of ["workloads", "minted", "downstream"] as const) {
      expect(ledger.horizon(made?.authorityId ?? "", holders)).toBe(made?.notAfter ?? 0);
    }
  }
  await authority.prepare(["x509"]);
  const next = await open();
  expect(next.horizon(authority.state("x509", "prepared")?.authorityId ?? "", "workloads")).toBe(0);
});

test("waiting for what is being signed ends with the last of it, and not with what began later", async () => {
  const ledger = await open();
  await ledger.quiesce();
  const [first, second] = [ledger.enter(), ledger.enter()];
  let isQuiet = false;
  const quiet = ledger.quiesce().then(() => {
    isQuiet = true;
  });
  const later = ledger.enter();
  ledger.leave(first);
  await fixture.clock.advance(1);
  expect(isQuiet).toBe(false);
  ledger.leave(second);
  await quiet;
  ledger.leave(later);
});

test("an authority that is recorded says what it signs, for whom, and when it is at it", async () => {
  const authority = await fixture.open();
  await authority.recover();
  const ledger = await open();
  const recorded = recordSignings(authority, ledger);
  const { publicKey } = await generateKey("ec-p256");
  const publicKeyInfo = exportPublicKeyInfo(publicKey);
  const spiffeId = makeSpiffeId(trustDomain, "/w1");
  const request = { spiffeId, publicKeyInfo, dnsNames: [], ttlSeconds: 100 };
  const x509 = authority.state("x509", "active")?.authorityId ?? "";
  const jwt = authority.state("jwt", "active")?.authorityId ?? "";
  const horizons = (id: string) =>
    (["workloads", "minted", "downstream"] as const).map((holders) => {
      const horizon = ledger.horizon(id, holders);
      return horizon === 0 ? 0 : horizon - startSeconds;
    });
  await fixture.registry.store.svidHorizons.prune(Number.MAX_SAFE_INTEGER - 1);

  const signing = recorded.signWorkloadSvid({ ...request, holder: { agent, entryId: entry(1) } });
  let isQuiet = false;
  const quiet = ledger.quiesce().then(() => {
    isQuiet = true;
  });
  expect(isQuiet).toBe(false);
  await Promise.all([signing, quiet]);
  expect(ledger.pending(agent, [x509]).svids).toBeGreaterThan(0);
  const token = { spiffeId, audience: ["a"], ttlSeconds: 50, withId: false };
  await recorded.signJwtSvid({ ...token, holder: { agent, entryId: entry(1) } });
  await recorded.signAgentSvid(agent, publicKeyInfo).then(({ serialNumber }) => {
    expect(ledger.agentAuthority(agent, serialNumber)).toBe(x509);
    expect(ledger.agentAuthority(agent, "1")).toBeUndefined();
  });
  const refused = recorded.signJwtSvid({ ...token, audience: [] });
  expect((await failureOf(refused)).code).toBe("INVALID_ARGUMENT");
  await ledger.quiesce();
  // The database could not tell what these authorities had signed, so that all may live until they end.
  expect([horizons(x509), horizons(jwt)]).toEqual([new Array(3).fill(caTtl), new Array(3).fill(caTtl)]);

  await authority.prepare(["x509", "jwt"]);
  await authority.activate(["x509", "jwt"]);
  await recorded.signWorkloadSvid(request);
  await recorded.signDownstreamCa(publicKeyInfo, 200);
  await recorded.signJwtSvid({ ...token, holder: { agent, entryId: entry(1) } });
  const [nextX509, nextJwt] = [authority.state("x509", "active"), authority.state("jwt", "active")];
  expect(horizons(nextX509?.authorityId ?? "")).toEqual([0, 100, 200]);
  expect(horizons(nextJwt?.authorityId ?? "")).toEqual([50, 0, 0]);
});
