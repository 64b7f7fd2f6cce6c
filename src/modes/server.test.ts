import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { failureOf } from "../../test/server/failure.ts";
import { createAdjustableClock, testSettings } from "../../test/server/running.ts";
import { systemClock, unixSeconds } from "../core/clock.ts";
import { draftEntry } from "../core/entry.ts";
import { nullLogger } from "../core/log.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId, serverId } from "../core/spiffe-id.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { dialTls, dialUnix } from "../rpc/dial.ts";
import { HealthService } from "../rpc/gen/grpc/health/v1/health.ts";
import { BundleService } from "../rpc/gen/spire/api/server/bundle/v1/bundle.ts";
import { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import type { ServerSettings } from "./server/settings.ts";
import { type RunningServer, startServer } from "./server.ts";

const trustDomain = parseTrustDomain("example.org");
const deps = { clock: systemClock, log: nullLogger };

let directory: string;
let started: RunningServer[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-mode-"));
  started = [];
});
afterEach(async () => {
  for (const server of started) await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const settings = (overrides: Partial<ServerSettings> = {}): ServerSettings => ({
  ...testSettings(join(directory, "data")),
  socketPath: join(directory, "run", "api.sock"),
  ...overrides,
});

async function start(overrides: Partial<ServerSettings> = {}, clock = deps.clock): Promise<RunningServer> {
  const server = await startServer(settings(overrides), { ...deps, clock });
  started.push(server);
  return server;
}

const rootsOf = (server: RunningServer) =>
  server.bundle().x509Authorities.map(({ der }) => parseCertificate(der).serialNumber);

async function getBundleOverTls(server: RunningServer, clock = deps.clock) {
  const bundle = () => server.bundle();
  const channel = dialTls({ address: server.address, bundle, serverId: serverId(trustDomain), clock });
  try {
    return await channel.client(BundleService).getBundle({ outputMask: undefined });
  } finally {
    channel.close();
  }
}

const entryOf = (parentId: SpiffeId) =>
  draftEntry({
    id: "kept",
    spiffeId: makeSpiffeId(trustDomain, "/web"),
    parentId,
    selectors: [{ type: "unix", value: "uid:0" }],
  });

describe("a running server", () => {
  test("answers on its socket and on its port", async () => {
    const server = await start();
    const local = dialUnix(server.socketPath);
    expect(await local.client(HealthService).check({ service: "" })).toEqual({ status: 1 });
    const named = local.client(HealthService).check({ service: "agent" });
    expect(await failureOf(named)).toMatchObject({ code: "INVALID_ARGUMENT" });
    local.close();
    expect((await getBundleOverTls(server)).trustDomain).toBe(trustDomain);
    expect(server.address).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  test("keeps its files to itself", async () => {
    const server = await start();
    const modeOf = (path: string) => statSync(path).mode & 0o777;
    expect(modeOf(join(directory, "data"))).toBe(0o700);
    expect(modeOf(join(directory, "data", "keys.json"))).toBe(0o600);
    expect(modeOf(join(directory, "run"))).toBe(0o750);
    expect(modeOf(server.socketPath)).toBe(0o770);
  });

  test("leaves nothing when it closes, also when asked twice", async () => {
    const server = await start({
      keyManager: { type: "memory" },
      dataStore: { type: "sqlite", path: ":memory:" },
    });
    await Promise.all([server.close(), server.close()]);
    expect(existsSync(server.socketPath)).toBe(false);
    expect(readdirSync(join(directory, "data"))).toEqual([]);
    const again = await start({ bindPort: Number(server.address.split(":")[1]) });
    expect(again.address).toBe(server.address);
  });

  test("tells of changes that concern agents", async () => {
    const server = await start();
    const agents: unknown[] = [];
    const stop = server.onChange((concerned) => agents.push(concerned));
    const agent = makeSpiffeId(trustDomain, "/spire/agent/a/b");
    await server.registry.putNode({
      id: agent,
      attestationType: "a",
      serialNumber: "1",
      expiresAt: unixSeconds(systemClock) + 60,
      newSerialNumber: "",
      newExpiresAt: 0,
      canReattest: false,
      agentVersion: "",
      selectors: [],
    });
    agents.length = 0;
    await server.registry.createEntries([entryOf(agent)]);
    expect(agents).toEqual([new Set([agent])]);
    stop();
    await server.registry.deleteEntries(["kept"]);
    expect(agents).toHaveLength(1);
  });
});

describe("a restart", () => {
  test("goes on with the same authority and entries", async () => {
    const before = await start();
    await before.registry.createEntries([entryOf(makeSpiffeId(trustDomain, "/spire/agent/a/b"))]);
    const roots = rootsOf(before);
    await before.close();
    const after = await start();
    expect(rootsOf(after)).toEqual(roots);
    expect(await after.registry.getEntry("kept")).toMatchObject({ spiffeId: "spiffe://example.org/web" });
    expect((await getBundleOverTls(after)).x509Authorities).toHaveLength(1);
  });

  test("after the end of every certificate works at once, with the entries that were there", async () => {
    const before = await start();
    await before.registry.createEntries([entryOf(makeSpiffeId(trustDomain, "/spire/agent/a/b"))]);
    const roots = rootsOf(before);
    await before.close();
    const clock = createAdjustableClock();
    clock.putForward(30 * 86_400_000);
    const after = await start({}, clock);
    expect(rootsOf(after)).not.toEqual(roots);
    expect(await after.registry.getEntry("kept")).toBeDefined();
    expect((await getBundleOverTls(after, clock)).x509Authorities).not.toBeEmpty();
  });
});

test("a clock that jumps past every end doesn't stop the signing", async () => {
  const clock = createAdjustableClock();
  const server = await start({}, clock);
  clock.putForward(12 * 3_600_000 * 4);
  const local = dialUnix(server.socketPath);
  const request = { id: { trustDomain, path: "/web" }, audience: ["a"], ttl: 0 };
  const { svid } = await local.client(SVIDService).mintJwtsvid(request);
  expect(svid?.expiresAt).toBeGreaterThan(unixSeconds(clock));
  local.close();
});

describe("a start is refused", () => {
  const refused = (overrides: Partial<ServerSettings> = {}) => startServer(settings(overrides), deps);

  test("for the state of a development instance, unless it is one", async () => {
    mkdirSync(join(directory, "data"));
    writeFileSync(join(directory, "data", "dev.json"), "{}");
    expect(await failureOf(refused())).toMatchObject({ code: "FAILED_PRECONDITION" });
    expect((await failureOf(refused())).message).toContain(
      `"${join(directory, "data")}" is the state of a "spire dev" instance`,
    );
    expect(readdirSync(join(directory, "data"))).toEqual(["dev.json"]);
    await start({ dev: true });
  });

  test("for another trust domain's data, naming both, and the data stays as it is", async () => {
    const first = await start();
    const roots = rootsOf(first);
    await first.close();
    const other = refused({ trustDomain: parseTrustDomain("other.test") });
    expect((await failureOf(other)).message).toContain(
      'the database belongs to trust domain "example.org", and this server is for "other.test"',
    );
    expect(rootsOf(await start())).toEqual(roots);
  });

  test("when the socket is in use, and the running server goes on", async () => {
    const first = await start();
    const second = refused({ dataDir: join(directory, "second"), keyManager: { type: "memory" } });
    expect(await failureOf(second)).toMatchObject({ code: "FAILED_PRECONDITION" });
    expect((await getBundleOverTls(first)).trustDomain).toBe(trustDomain);
  });

  test("when the port is in use, and leaves no socket", async () => {
    const first = await start();
    const second = refused({
      bindPort: Number(first.address.split(":")[1]),
      socketPath: join(directory, "run", "second.sock"),
      dataStore: { type: "sqlite", path: ":memory:" },
      keyManager: { type: "memory" },
    });
    expect((await failureOf(second)).message).toContain(`could not listen at ${first.address}`);
    expect(readdirSync(join(directory, "run"))).toEqual(["api.sock"]);
  });

  test("for a truncated key file, by its name, and the file stays as it is", async () => {
    mkdirSync(join(directory, "data"));
    const path = join(directory, "data", "keys.json");
    writeFileSync(path, '{"keys": {');
    expect((await failureOf(refused())).message).toContain(`key file "${path}" is damaged`);
    expect(existsSync(join(directory, "run"))).toBe(false);
  });
});
