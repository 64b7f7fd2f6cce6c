/** The way back of a bundle: after a revocation that went too far, and after a root that ended while agents were away. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { runProgram } from "../../src/cli/command.ts";
import { programNamed } from "../../src/cli/process.ts";
import { unixSeconds } from "../../src/core/clock.ts";
import { exportPublicKeyInfo, generateKey } from "../../src/core/keys.ts";
import { nullLogger } from "../../src/core/log.ts";
import { makeSpiffeId } from "../../src/core/spiffe-id.ts";
import type { Task } from "../../src/core/tasks.ts";
import { emptyBundle, type TrustBundle } from "../../src/core/trust-bundle.ts";
import { authorityId, parseCertificate, splitDer } from "../../src/core/x509/certificate.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { programs } from "../../src/main.ts";
import { defaultAgentSettings, type RunningAgent, startAgent } from "../../src/modes/agent.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { BundleHistoryService } from "../../src/rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import type { TlsIdentity } from "../../src/rpc/tls.ts";
import type { Authority } from "../../src/server/authority.ts";
import { createBundleHistory } from "../../src/server/bundle-history.ts";
import { startBundlePruning } from "../../src/server/pruning.ts";
import { startRotation } from "../../src/server/rotation.ts";
import { type AuthorityFixture, caTtl, createAuthorityFixture, hour, until } from "./authority-fixture.ts";
import { failureOf } from "./failure.ts";
import {
  entryMessage,
  idMessage,
  startTestServer,
  type TestAgent,
  type TestServer,
  trustDomain,
} from "./running.ts";

const idsOf = ({ x509Authorities }: Pick<TrustBundle, "x509Authorities">) =>
  x509Authorities.map(({ der }) => authorityId(parseCertificate(der)));

describe("after a revocation that went too far", () => {
  let running: TestServer;
  /** An agent that was away: it holds what the server had before the revocation. */
  let away: RunningAgent;
  let attested: TestAgent;
  let first: string;
  let second: string;
  const workloads: TlsIdentity[] = [];
  beforeAll(async () => {
    running = await startTestServer();
    attested = await running.attest();
    for (const path of ["/web", "/api"]) workloads.push(await running.mint(path));
    const api = running.local.client(LocalAuthorityService);
    const { token } = await running.server.registry.createJoinToken({ ttlSeconds: 600 });
    const parentId = idMessage(`/spire/agent/join_token/${token}`);
    const selectors = [{ type: "unix", value: `uid:${process.getuid?.() ?? 0}` }];
    const entries = [entryMessage({ parentId, selectors })];
    await running.local.client(EntryService).batchCreateEntry({ entries, outputMask: undefined });
    away = await startHost(token);
    first = (await api.getX509AuthorityState({})).active?.authorityId ?? "";
    second = (await api.prepareX509Authority({})).preparedAuthority?.authorityId ?? "";
    away.nudge();
    await untilWorkloadTrusts([first, second]);
    await away.close();
    await api.activateX509Authority({ authorityId: second });
    await api.taintX509Authority({ authorityId: first });
    await api.revokeX509Authority({ authorityId: first });
  });
  afterAll(async () => {
    await away.close();
    await running.close();
  });

  const socketPath = () => join(running.settings.dataDir, "agent.sock");

  /** With what it kept of an earlier run. */
  const startHost = (joinToken?: string): Promise<RunningAgent> =>
    startAgent(
      {
        ...defaultAgentSettings,
        trustDomain,
        serverAddress: running.server.address,
        socketPath: socketPath(),
        dataDir: running.settings.dataDir,
        keyManager: { type: "disk", directory: join(running.settings.dataDir, "agent-keys") },
        ...(joinToken ? { joinToken } : {}),
        bootstrap: { type: "bundle", bundle: running.server.bundle() },
      },
      { clock: running.clock, log: nullLogger },
    );

  /** Resolves once a workload of the agent is told of exactly these roots, and has an SVID. */
  async function untilWorkloadTrusts(roots: readonly string[]): Promise<TlsIdentity["chain"]> {
    const stop = new AbortController();
    const channel = dialUnix(socketPath());
    try {
      const metadata = { "workload.spiffe.io": "true" };
      const stream = channel
        .client(SpiffeWorkloadAPIService)
        .fetchX509Svid({}, { metadata, signal: stop.signal });
      for await (const { svids } of stream) {
        const known = splitDer(svids[0]?.bundle ?? new Uint8Array()).map((der) =>
          authorityId(parseCertificate(der)),
        );
        if (known.toSorted().join() === roots.toSorted().join())
          return splitDer(svids[0]?.x509Svid ?? new Uint8Array());
      }
      throw new Error("the stream ended before the workload knew them");
    } finally {
      stop.abort();
      channel.close();
    }
  }

  /** Each workload's view of the other one, with the bundle that their agents would give them. */
  const workloadsMeet = () =>
    workloads.map(
      ({ chain }) => verifySvidChain(chain, running.server.bundle(), unixSeconds(running.clock)).id,
    );
  const syncAsAgent = (agent: TestAgent) =>
    running.dial(agent.identity).client(EntryService).getAuthorizedEntries({ outputMask: undefined });

  async function spire(...args: readonly string[]) {
    const output = { out: "", err: "" };
    const exitCode = await runProgram(programNamed(programs, "spire-server"), args, {
      out(text) {
        output.out += text;
      },
      err(text) {
        output.err += text;
      },
      readInput: async () => "",
      untilStopped: () => new Promise(() => {}),
      env: { SPIRE_SERVER_PRIVATE_SOCKET: running.settings.socketPath },
    });
    return { ...output, exitCode };
  }

  test("nothing that the authority signed is worth anything", async () => {
    expect(idsOf(running.server.bundle())).toEqual([second]);
    expect(workloadsMeet).toThrow();
    expect((await failureOf(syncAsAgent(attested))).code).toBe("UNAVAILABLE");
  });

  test("the history shows what happened, step by step", async () => {
    const { out, exitCode } = await spire("bundle", "history");
    expect(exitCode).toBe(0);
    const blocks = out.split("\n\n");
    expect(blocks[0]).toBe("Found 4 versions of the bundle");
    expect(blocks[1]).toMatch(
      /^Sequence number {2}: 1\nTime {13}: 20.* UTC\nReason {11}: X509 CA, JWT key prepared\n/,
    );
    expect(blocks[1]).toContain(`Added            : X.509 authority ${first} (expires 20`);
    expect(blocks[2]).toContain(`Added            : X.509 authority ${second} (expires 20`);
    expect(blocks[3]).toContain(
      `Reason           : X.509 authority tainted\nTainted          : X.509 authority ${first}`,
    );
    expect(blocks[4]).toMatch(/^Sequence number {2}: 4 \(current\)\n/);
    expect(blocks[4]).toContain(`Removed          : X.509 authority ${first}\n`);
  });

  test("the history is there as JSON", async () => {
    const { out } = await spire("bundle", "history", "-output", "json");
    const { versions } = JSON.parse(out) as { versions: readonly Record<string, unknown>[] };
    expect(versions.map(({ sequence_number, current }) => [sequence_number, current])).toEqual([
      ["1", false],
      ["2", false],
      ["3", false],
      ["4", true],
    ]);
    expect(versions[3]?.["changes"]).toMatchObject([
      { action: "REMOVED", authority: { kind: "X509", authority_id: first, tainted: true } },
    ]);
  });

  test("a version that there is not can't be restored", async () => {
    expect(await spire("bundle", "restore", "-sequence", "12")).toEqual({
      out: "",
      err: "Error: rpc error: code = NotFound desc = version 12 of the bundle is not kept; those from 1 to 4 are\n",
      exitCode: 1,
    });
    expect(await spire("bundle", "restore")).toMatchObject({
      err: "Error: a sequence number is required; `bundle history` lists those that there are\n",
      exitCode: 1,
    });
    expect((await spire("bundle", "restore", "-sequence", "-1")).exitCode).toBe(1);
    expect(running.server.bundle().sequenceNumber).toBe(4);
  });

  test("restoring is for the server's own machine only", async () => {
    const client = running.anonymous.client(BundleHistoryService);
    expect((await failureOf(client.restoreVersion({ sequenceNumber: 2 }))).code).toBe("UNIMPLEMENTED");
    expect((await failureOf(client.listVersions({}))).code).toBe("UNIMPLEMENTED");
    expect(running.server.bundle().sequenceNumber).toBe(4);
  });

  test("restoring says what it did, and all that the authority signed holds again", async () => {
    const { out, err, exitCode } = await spire("bundle", "restore", "-sequence", "2");
    expect([err, exitCode]).toEqual(["", 0]);
    const [head, authority, ...notes] = out.trimEnd().split("\n");
    expect(head).toBe("Restored 1 authority of sequence number 2; the bundle now has sequence number 5.");
    expect(authority).toStartWith(`  X.509 authority ${first} (expires 20`);
    expect(notes).toEqual([
      "    tainted when it was taken out, trusted again now",
      "    its key is here: it can be tainted and revoked again",
    ]);
    expect(idsOf(running.server.bundle())).toEqual([second, first]);
    expect(workloadsMeet()).toEqual([running.idOf("/web"), running.idOf("/api")]);
    expect(await syncAsAgent(attested)).toEqual({ entries: [] });
  });

  test("an agent that was away comes back with its SVID, and gets the restored bundle by its sync", async () => {
    const id = away.agentId;
    away = await startHost();
    expect(away.agentId).toBe(id);
    const chain = await untilWorkloadTrusts([first, second]);
    const now = unixSeconds(running.clock);
    expect(verifySvidChain(chain, running.server.bundle(), now).id).toBe(running.idOf("/web"));
  });

  test("a second restoration finds nothing to do", async () => {
    const { out } = await spire("bundle", "restore", "--sequence=2");
    expect(out).toBe(
      "Nothing to restore: the bundle has all authorities of sequence number 2, and stays at sequence number 5.\n",
    );
    const { out: json } = await spire("bundle", "restore", "-sequence", "2", "-output", "json");
    expect(JSON.parse(json)).toEqual({ sequence_number: "5", restored: [], still_tainted: [] });
  });

  test("an administrator can revoke the authority once more", async () => {
    const api = running.local.client(LocalAuthorityService);
    await api.taintX509Authority({ authorityId: first });
    const { out } = await spire("bundle", "restore", "-sequence", "2");
    expect(out).toContain(`Still tainted: X.509 authority ${first}; a restoration lifts no taint.\n`);
    await api.revokeX509Authority({ authorityId: first });
    expect(workloadsMeet).toThrow();
  });
});

describe("after a root that ended while agents were away", () => {
  let fixture: AuthorityFixture;
  let authority: Authority;
  const tasks: Task[] = [];
  beforeEach(async () => {
    fixture = await createAuthorityFixture();
    authority = await fixture.open();
    await authority.recover();
    const { registry, clock } = fixture;
    const common = { authority, registry, clock, log: nullLogger };
    tasks.push(startRotation(common), startBundlePruning(common));
  });
  afterEach(async () => {
    await Promise.all(tasks.splice(0).map((task) => task.stop()));
    await fixture.close();
  });

  const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
  const now = () => unixSeconds(fixture.clock);
  const active = () => String(authority.state("x509", "active")?.authorityId);

  async function issue(): Promise<readonly Uint8Array[]> {
    const publicKeyInfo = exportPublicKeyInfo((await generateKey("ec-p256")).publicKey);
    const spiffeId = makeSpiffeId(trustDomain, "/web");
    return (await authority.signWorkloadSvid({ spiffeId, publicKeyInfo, dnsNames: [], ttlSeconds: caTtl }))
      .chain;
  }

  /** Time goes by; background work does what is due. */
  async function pass(seconds: number): Promise<void> {
    for (let left = seconds; left > 0; left -= hour) {
      fixture.clock.jump(hour * 1000);
      for (const task of tasks) {
        task.nudge();
        await fixture.clock.advance(0);
        await authority.exclusively(async () => {});
      }
    }
  }

  test("the history tells when and why it went; restored, it proves what it signed in its time, and no more", async () => {
    const first = active();
    const signedInTime = now();
    const old = await issue();
    await pass(caTtl + 32 * hour);
    await until(() => !idsOf(bundle()).includes(first));
    expect(active()).not.toBe(first);
    expect(() => verifySvidChain(old, bundle(), signedInTime)).toThrow();

    const { registry, clock } = fixture;
    const history = createBundleHistory({ registry, authority, clock, log: nullLogger });
    const versions = await history.versions();
    const loss = versions.findIndex(({ changes }) =>
      changes?.some(({ action, authority }) => action === "removed" && authority.authorityId === first),
    );
    expect(versions[loss]?.reason).toBe("expired authorities pruned");
    const before = versions[loss - 1];
    const fresh = await issue();

    const { restored } = await history.restore(before?.sequenceNumber ?? 0);
    expect(restored.find((item) => item.authorityId === first)).toMatchObject({
      isExpired: true,
      tainted: false,
    });
    expect(idsOf(bundle())).toContain(first);
    // What an agent brings back that was away holds no longer, whatever the bundle says: it attests anew.
    expect(() => verifySvidChain(old, bundle(), now())).toThrow("expired");
    expect(verifySvidChain(old, bundle(), signedInTime).id).toBe(makeSpiffeId(trustDomain, "/web"));
    expect(verifySvidChain(fresh, bundle(), now()).id).toBe(makeSpiffeId(trustDomain, "/web"));

    await pass(7 * hour);
    await until(() => !idsOf(bundle()).includes(first));
    expect(verifySvidChain(await issue(), bundle(), now()).id).toBe(makeSpiffeId(trustDomain, "/web"));
  });
});
