import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  hour,
  trustDomain,
} from "../../test/server/authority-fixture.ts";
import { failureOf } from "../../test/server/failure.ts";
import { makeRoot } from "../../test/upstream/ca-files.ts";
import { createUpperServer, type UpperServer } from "../../test/upstream/upper-server.ts";
import { unixSeconds } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import { exportPublicKeyInfo, generateKey } from "../core/keys.ts";
import { type Logger, nullLogger } from "../core/log.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import { emptyBundle } from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import { formatSubject } from "../core/x509/name.ts";
import { verifySvidChain } from "../core/x509/verify.ts";
import { createMemoryKeyManager } from "../plugins/key-managers/memory.ts";
import type { UpstreamAuthority } from "../plugins/upstream-authorities/index.ts";
import { createSpireUpstream } from "../plugins/upstream-authorities/spire.ts";
import type { Authority } from "./authority.ts";
import { createForcedRotation } from "./forced-rotation.ts";
import { createForcedUpstream } from "./forced-upstream.ts";
import { startRotation } from "./rotation.ts";
import { createUpstream, type UpstreamOptions, upstreamAuthorityId } from "./upstream.ts";
import { startUpstreamFollowing } from "./upstream-following.ts";

const web = makeSpiffeId(trustDomain, "/web");

let fixture: AuthorityFixture;
let upper: UpperServer;
let plugin: UpstreamAuthority;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  upper = await createUpperServer();
  plugin = createSpireUpstream({ server: upper.server, clock: fixture.clock });
});
afterEach(async () => {
  await fixture.close();
  await upper.close();
});

const now = () => unixSeconds(fixture.clock);
const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const rootIds = (of = bundle()) => of.x509Authorities.map(({ der }) => authorityId(parseCertificate(der)));
const taintedIds = () =>
  bundle().x509Authorities.flatMap(({ der, tainted }) =>
    tainted ? [authorityId(parseCertificate(der))] : [],
  );
const jwtIds = (of = bundle()) => of.jwtAuthorities.map(({ keyId }) => keyId);
const idOf = (authority: Authority, status: "active" | "prepared" | "old" = "active") =>
  authority.state("x509", status)?.authorityId ?? "";

const upstreamOf = (overrides: Partial<UpstreamOptions> = {}) =>
  createUpstream({
    name: "spire",
    plugin,
    trustDomain,
    registry: fixture.registry,
    clock: fixture.clock,
    log: nullLogger,
    ...overrides,
  });

/** As after a start, or a restart; `recover` is still to be called. */
const open = (overrides: Partial<UpstreamOptions> = {}) => fixture.open({ upstream: upstreamOf(overrides) });

async function start(): Promise<Authority> {
  const authority = await open();
  await authority.recover();
  return authority;
}

async function signWeb(authority: Authority) {
  const { publicKey } = await generateKey("ec-p256");
  const publicKeyInfo = exportPublicKeyInfo(publicKey);
  return authority.signWorkloadSvid({ spiffeId: web, publicKeyInfo, dnsNames: [], ttlSeconds: 0 });
}

/** Moves time until the condition holds. */
async function passing(condition: () => boolean): Promise<void> {
  while (!condition()) await fixture.clock.advance(1_000);
}

/** Follows until the test ends. */
function follow(authority: Authority) {
  const { registry, clock } = fixture;
  const task = startUpstreamFollowing({ plugin, authority, registry, clock, log: nullLogger });
  return {
    until: passing,
    [Symbol.asyncDispose]: () => task.stop(),
  };
}

/** The root of the upper server is prepared, put in force, and the old one tainted. */
async function rotateUpper(): Promise<{ old: string; next: string }> {
  const old = idOf(upper.authority);
  await upper.authority.prepare(["x509"]);
  await upper.authority.activate(["x509"]);
  await createForcedRotation(upper.authority, nullLogger).taint("x509", old);
  return { old, next: idOf(upper.authority) };
}

describe("the first start", () => {
  test("has a CA signed upstream; SVIDs come with it, hold for the upstream roots, and hold there", async () => {
    const authority = await start();
    const { chain } = await signWeb(authority);
    expect(chain).toHaveLength(2);
    expect(rootIds()).toEqual([idOf(upper.authority)]);
    expect(verifySvidChain(chain, bundle(), now()).id).toBe(web);
    expect(verifySvidChain(chain, upper.bundle(), now()).id).toBe(web);
  });

  test("names what signed the CA", async () => {
    const authority = await start();
    const active = authority.state("x509", "active");
    expect(active && upstreamAuthorityId(active)).toBe(idOf(upper.authority));
    const root = upper.authority.state("x509", "active");
    expect(root && upstreamAuthorityId(root)).toBe("");
  });

  test("publishes the JWT key upstream, and has the keys that are published there", async () => {
    const authority = await start();
    const own = authority.state("jwt", "active")?.authorityId ?? "";
    const theirs = upper.authority.state("jwt", "active")?.authorityId ?? "";
    expect(jwtIds().toSorted()).toEqual([own, theirs].toSorted());
    expect(jwtIds(upper.bundle()).toSorted()).toEqual([own, theirs].toSorted());
  });

  test("without the upstream authority fails with its name, and leaves nothing published", async () => {
    upper.setReachable(false);
    const failure = await failureOf(start());
    expect(failure.code).toBe("UNAVAILABLE");
    expect(failure.message).toContain('upstream authority "spire"');
    expect(failure.message).toContain("could not connect to upper:8081");
    expect(rootIds()).toEqual([]);
  });

  test("asks for the configured subject, made unique", async () => {
    const asked: string[] = [];
    const { parseCertificateRequest } = await import("../core/x509/csr.ts");
    const recording: UpstreamAuthority = {
      ...plugin,
      mint(csr, ttl) {
        const { subjectDer, uris } = parseCertificateRequest(csr);
        asked.push(formatSubject(subjectDer), ...uris);
        return plugin.mint(csr, ttl);
      },
    };
    const subject = { country: ["DE"], organization: ["Acme"], commonName: "nested" };
    const authority = await open({ plugin: recording, subject });
    await authority.recover();
    expect(asked).toEqual([
      expect.stringMatching(/^SERIALNUMBER=\d+,CN=nested,O=Acme,C=DE$/),
      "spiffe://example.org",
    ]);
  });

  test("takes the root out of the chain when the upstream authority sends it along", async () => {
    const withRoot: UpstreamAuthority = {
      ...plugin,
      async mint(csr, ttl) {
        const { chain, roots } = await plugin.mint(csr, ttl);
        return { chain: [...chain, ...roots.map(({ der }) => der)], roots };
      },
    };
    const authority = await open({ plugin: withRoot });
    await authority.recover();
    expect((await signWeb(authority)).chain).toHaveLength(2);
  });
});

describe("a CA that can't be used is refused, and nothing of it is kept:", () => {
  const cases: readonly [
    string,
    (minted: Awaited<ReturnType<UpstreamAuthority["mint"]>>) => unknown,
    string,
  ][] = [
    [
      "for another key",
      async () => plugin.mint(await otherCsr(), hour),
      "it is not for the key that was sent",
    ],
    ["no certificate", (minted) => ({ ...minted, chain: [] }), "there is no certificate"],
    ["unknown roots", async (minted) => ({ ...minted, roots: await otherRoots() }), "unknown authority"],
  ];

  async function otherCsr() {
    const { createCertificateRequest } = await import("../core/x509/csr.ts");
    return createCertificateRequest({ key: await generateKey("ec-p256"), uri: "spiffe://example.org" });
  }

  const otherRoots = async () => [{ der: (await makeRoot(now())).der, tainted: false }];

  test.each(cases)("%s", async (_, change, reason) => {
    const broken: UpstreamAuthority = {
      ...plugin,
      async mint(csr, ttl) {
        return (await change(await plugin.mint(csr, ttl))) as Awaited<ReturnType<UpstreamAuthority["mint"]>>;
      },
    };
    const authority = await open({ plugin: broken });
    const failure = await failureOf(authority.recover());
    expect(failure.code).toBe("FAILED_PRECONDITION");
    expect(failure.message).toContain("X509 CA minted by upstream authority is invalid");
    expect(failure.message).toContain(reason);
    expect(rootIds()).toEqual([]);
    expect(authority.state("x509", "active")).toBeUndefined();
  });
});

describe("an upstream authority that publishes no keys", () => {
  const silent = (): UpstreamAuthority => {
    const { publishJwtKey: _, ...others } = plugin;
    return others;
  };
  const unimplemented = (): UpstreamAuthority => ({
    ...plugin,
    publishJwtKey: async () => {
      throw new SpireError("UNIMPLEMENTED", "publishing upstream is unsupported");
    },
  });

  test.each([
    ["has no such method", silent],
    ["says so", unimplemented],
  ])("that %s leaves them to this server, and is warned of once", async (_, make) => {
    const warnings: unknown[] = [];
    const log: Logger = { ...nullLogger, warn: (message, fields) => warnings.push({ message, ...fields }) };
    const authority = await open({ plugin: make(), log });
    await authority.recover();
    await authority.prepare(["jwt"]);
    expect(jwtIds()).toHaveLength(2);
    expect(warnings).toEqual([
      {
        message: expect.stringContaining("UpstreamAuthority plugin does not support JWT-SVIDs."),
        plugin_name: "spire",
      },
    ]);
  });
});

test("a key that isn't published within 5 s is not used", async () => {
  const authority = await start();
  const before = jwtIds();
  const stuck: UpstreamAuthority = { ...plugin, publishJwtKey: () => new Promise(() => {}) };
  const restarted = await open({ plugin: stuck });
  const failing = failureOf(restarted.prepare(["jwt"]));
  let isOver = false;
  void failing.then(() => {
    isOver = true;
  });
  while (!isOver) await fixture.clock.advance(1_000);
  expect((await failing).code).toBe("DEADLINE_EXCEEDED");
  expect(jwtIds()).toEqual(before);
  expect(authority.state("jwt", "active")?.authorityId).toBe(restarted.state("jwt", "active")?.authorityId);
});

describe("while the upstream authority is away", () => {
  test("the CA in force signs on, and its successor comes when the upstream authority is back", async () => {
    const authority = await start();
    const { clock } = fixture;
    const errors: unknown[] = [];
    const log: Logger = { ...nullLogger, error: (message, fields) => errors.push([message, fields]) };
    const rotation = startRotation({ authority, clock, log });
    upper.setReachable(false);
    clock.jump(15 * hour * 1000);
    await passing(() => errors.length > 0);
    expect(Bun.inspect(errors)).toContain("could not connect to upper:8081");
    expect(authority.state("x509", "prepared")).toBeUndefined();
    expect(verifySvidChain((await signWeb(authority)).chain, bundle(), now()).id).toBe(web);
    // The upper server's own clock stands still; it has not rotated.
    upper.setReachable(true);
    await passing(() => authority.state("x509", "prepared") !== undefined);
    await rotation.stop();
  });

  test("a server whose own CA holds starts and signs", async () => {
    const before = await start();
    upper.setReachable(false);
    const after = await start();
    expect(idOf(after)).toBe(idOf(before));
    expect(verifySvidChain((await signWeb(after)).chain, bundle(), now()).id).toBe(web);
  });

  test("one whose CA has expired does not start; once it is back, one starts by itself", async () => {
    await start();
    upper.setReachable(false);
    fixture.clock.jump((caTtl + hour) * 1000);
    upper.fixture.clock.jump((caTtl + hour) * 1000);
    expect((await failureOf(start())).code).toBe("UNAVAILABLE");
    upper.setReachable(true);
    const back = await start();
    expect(verifySvidChain((await signWeb(back)).chain, bundle(), now()).id).toBe(web);
  });

  test("who asks for SVIDs of an expired CA waits for one attempt, not for one each", async () => {
    const authority = await start();
    let attempts = 0;
    const counting: UpstreamAuthority = {
      ...plugin,
      mint() {
        attempts += 1;
        return Promise.reject(new SpireError("UNAVAILABLE", "away"));
      },
    };
    const restarted = await open({ plugin: counting });
    fixture.clock.jump((caTtl + 1) * 1000);
    const failures = await Promise.all(Array.from({ length: 20 }, () => failureOf(signWeb(restarted))));
    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set(["UNAVAILABLE"]));
    expect(attempts).toBe(1);
    expect(idOf(authority)).toBe(idOf(restarted));
  });

  test("what fails for X.509 doesn't keep JWT keys from being replaced", async () => {
    const noCa: UpstreamAuthority = {
      ...plugin,
      mint: () => Promise.reject(new SpireError("UNAVAILABLE", "away")),
    };
    await start();
    const authority = await open({ plugin: noCa });
    const { clock } = fixture;
    const rotation = startRotation({ authority, clock, log: nullLogger });
    clock.jump(13 * hour * 1000);
    await passing(() => authority.state("jwt", "prepared") !== undefined);
    expect(authority.state("x509", "prepared")).toBeUndefined();
    await rotation.stop();
  });
});

describe("a restart", () => {
  test("goes on with the CA of the journal, its chain included", async () => {
    const before = await start();
    await before.prepare(["x509"]);
    const after = await start();
    expect(idOf(after)).toBe(idOf(before));
    expect(idOf(after, "prepared")).toBe(idOf(before, "prepared"));
    expect((await signWeb(after)).chain).toHaveLength(2);
  });

  test("between signing upstream and the journal makes another CA of it", async () => {
    const before = await start();
    const killed: UpstreamAuthority = {
      ...plugin,
      async mint(csr, ttl) {
        await plugin.mint(csr, ttl);
        throw new SpireError("ABORTED", "killed");
      },
    };
    const dying = await open({ plugin: killed });
    await failureOf(dying.prepare(["x509"]));
    const after = await start();
    expect(idOf(after)).toBe(idOf(before));
    expect(after.state("x509", "prepared")).toBeUndefined();
    await after.prepare(["x509"]);
    await after.activate(["x509"]);
    expect(verifySvidChain((await signWeb(after)).chain, bundle(), now()).id).toBe(web);
  });

  test("after the root was revoked elsewhere makes a new CA", async () => {
    const before = await start();
    const { next } = await rotateUpper();
    await fixture.registry.mutateBundle(trustDomain, () => upper.bundle());
    await createForcedRotation(upper.authority, nullLogger).revoke("x509", idOf(upper.authority, "old"));
    await fixture.registry.mutateBundle(trustDomain, () => upper.bundle());
    const after = await start();
    expect(idOf(after)).not.toBe(idOf(before));
    const active = after.state("x509", "active");
    expect(active && upstreamAuthorityId(active)).toBe(next);
  });

  test("with an upstream authority for the first time keeps the CA that signed itself until its time comes", async () => {
    const alone = await fixture.open();
    await alone.recover();
    const nested = await start();
    expect(idOf(nested)).toBe(idOf(alone));
    await nested.prepare(["x509"]);
    await nested.activate(["x509"]);
    expect(rootIds()).toEqual([idOf(alone), idOf(upper.authority)]);
    expect(verifySvidChain((await signWeb(nested)).chain, upper.bundle(), now()).id).toBe(web);
  });

  test("with other keys makes its authorities anew", async () => {
    const before = await start();
    const after = await fixture.open({ keyManager: createMemoryKeyManager(), upstream: upstreamOf() });
    await after.recover();
    expect(idOf(after)).not.toBe(idOf(before));
    expect(rootIds()).toEqual([idOf(upper.authority)]);
  });
});

describe("following the upstream bundle", () => {
  test("brings new roots and keys", async () => {
    const authority = await start();
    await using following = follow(authority);
    await upper.authority.prepare(["x509", "jwt"]);
    await following.until(() => rootIds().length === 2 && jwtIds().length === 3);
    expect(rootIds().toSorted()).toEqual(rootIds(upper.bundle()).toSorted());
    expect(jwtIds().toSorted()).toEqual(jwtIds(upper.bundle()).toSorted());
  });

  test("keeps roots that are no longer listed, unless they were tainted", async () => {
    const authority = await start();
    await using following = follow(authority);
    const first = idOf(upper.authority);
    await upper.authority.prepare(["x509"]);
    await following.until(() => rootIds().length === 2);
    await upper.changeBundle((current) => ({
      ...current,
      x509Authorities: current.x509Authorities.slice(1),
    }));
    await upper.authority.prepare(["jwt"]);
    await following.until(() => jwtIds().length === 3);
    expect(rootIds()).toContain(first);
  });

  test("leaves a tainted root behind: a new CA first, then the taint, then the revocation", async () => {
    const authority = await start();
    const before = idOf(authority);
    const seen: string[] = [];
    fixture.registry.onChange(() => {
      const [tainted] = taintedIds();
      if (tainted !== undefined) seen.push(idOf(authority));
    });
    await using following = follow(authority);
    const { old, next } = await rotateUpper();
    await following.until(() => taintedIds().length > 0);
    expect(taintedIds()).toEqual([old]);
    const active = authority.state("x509", "active");
    expect(active && upstreamAuthorityId(active)).toBe(next);
    expect(idOf(authority, "old")).toBe(before);
    expect(seen).not.toContain(before);
    await createForcedRotation(upper.authority, nullLogger).revoke("x509", old);
    await following.until(() => !rootIds().includes(old));
    expect(verifySvidChain((await signWeb(authority)).chain, bundle(), now()).id).toBe(web);
  });

  test("uses the CA that is prepared already when the tainted root has no part in it", async () => {
    const authority = await start();
    await upper.authority.prepare(["x509"]);
    await upper.authority.activate(["x509"]);
    await authority.prepare(["x509"]);
    const prepared = idOf(authority, "prepared");
    await using following = follow(authority);
    await createForcedRotation(upper.authority, nullLogger).taint("x509", idOf(upper.authority, "old"));
    await following.until(() => taintedIds().length > 0);
    expect(idOf(authority)).toBe(prepared);
  });

  test("does not show the taint before a new CA can be had", async () => {
    const authority = await start();
    const unable: UpstreamAuthority = {
      ...plugin,
      mint: () => Promise.reject(new SpireError("UNAVAILABLE", "busy")),
    };
    const stuck = await open({ plugin: unable });
    await using following = follow(stuck);
    const { old } = await rotateUpper();
    await following.until(() => rootIds().length === 1);
    for (let round = 0; round < 20; round += 1) await fixture.clock.advance(5_000);
    expect(taintedIds()).toEqual([]);
    expect(idOf(stuck)).toBe(idOf(authority));
    await using following2 = follow(authority);
    await following2.until(() => taintedIds().includes(old));
  });

  test("takes over the taint and the end of keys, but not of this server's own", async () => {
    const authority = await start();
    await using following = follow(authority);
    const own = authority.state("jwt", "active")?.authorityId ?? "";
    const theirs = upper.authority.state("jwt", "active")?.authorityId ?? "";
    await upper.changeBundle((current) => ({
      ...current,
      jwtAuthorities: current.jwtAuthorities.map((key) => ({ ...key, tainted: true })),
    }));
    const tainted = () => bundle().jwtAuthorities.flatMap((key) => (key.tainted ? [key.keyId] : []));
    await following.until(() => tainted().length > 0);
    expect(tainted()).toEqual([theirs]);
    await upper.changeBundle((current) => ({ ...current, jwtAuthorities: [] }));
    await following.until(() => !jwtIds().includes(theirs));
    expect(jwtIds()).toEqual([own]);
  });

  test("does not bring back a key that this server has revoked", async () => {
    const authority = await start();
    await using following = follow(authority);
    const revoked = authority.state("jwt", "active")?.authorityId ?? "";
    await authority.prepare(["jwt"]);
    await authority.activate(["jwt"]);
    const forced = createForcedRotation(authority, nullLogger);
    await forced.taint("jwt", revoked);
    await forced.revoke("jwt", revoked);
    await upper.authority.prepare(["jwt"]);
    await following.until(() => jwtIds().length === 3);
    expect(jwtIds()).not.toContain(revoked);
    expect(jwtIds(upper.bundle())).toContain(revoked);
  });

  test("goes on after the upstream authority was away", async () => {
    const authority = await start();
    await using following = follow(authority);
    upper.setReachable(false);
    await fixture.clock.advance(60_000);
    await upper.authority.prepare(["x509"]);
    upper.setReachable(true);
    await following.until(() => rootIds().length === 2);
  });
});

describe("an upstream root, moved by hand", () => {
  let authority: Authority;
  let first: string;
  beforeEach(async () => {
    authority = await start();
    first = idOf(upper.authority);
  });

  const forced = () => createForcedUpstream(authority, nullLogger);
  const messageOf = async (work: Promise<unknown>) => {
    const { code, message } = await failureOf(work);
    return `${code}: ${message}`;
  };

  /** The upper server signs with another root, and this one has a CA of it in force. */
  async function moveOn(): Promise<void> {
    await upper.authority.prepare(["x509"]);
    await upper.authority.activate(["x509"]);
    await authority.prepare(["x509"]);
    await authority.activate(["x509"]);
  }

  test("is tainted, then revoked, in any case of its letters", async () => {
    await moveOn();
    expect(await forced().taint(first.toUpperCase())).toBe(first);
    expect(taintedIds()).toEqual([first]);
    expect(await forced().revoke(first)).toBe(first);
    expect(rootIds()).toEqual([idOf(upper.authority)]);
  });

  test("is refused while it vouches for what is in force or prepared", async () => {
    const taint = "INVALID_ARGUMENT: provided subject key id is not valid:";
    const revoke = "INVALID_ARGUMENT: invalid subject key ID:";
    const current = "unable to use upstream authority singing current authority";
    expect(await messageOf(forced().taint(first))).toBe(`${taint} ${current}`);
    expect(await messageOf(forced().revoke(first))).toBe(`${revoke} ${current}`);
    await upper.authority.prepare(["x509"]);
    await upper.authority.activate(["x509"]);
    await authority.prepare(["x509"]);
    const rule = "only upstream authorities signing an old authority can be used";
    expect(await messageOf(forced().taint(idOf(upper.authority)))).toBe(`${taint} ${rule}`);
  });

  test("is refused when it is none, or has signed nothing here", async () => {
    const taint = "INVALID_ARGUMENT: provided subject key id is not valid:";
    expect(await messageOf(forced().taint(""))).toBe(`${taint} no subject key ID provided`);
    const rule = "upstream authority didn't sign the old local authority";
    expect(await messageOf(forced().taint("abcd"))).toBe(`${taint} ${rule}`);
  });

  test("is revoked only once it is tainted, and tainted once", async () => {
    await moveOn();
    const failed = "INTERNAL: failed to revoke X.509 upstream authority:";
    const untainted = "it is not possible to revoke an untainted root CA";
    expect(await messageOf(forced().revoke(first))).toBe(`${failed} ${untainted}`);
    await forced().taint(first);
    const tainted = "INTERNAL: failed to taint upstream authority: root CA is already tainted";
    expect(await messageOf(forced().taint(first))).toBe(tainted);
  });
});
