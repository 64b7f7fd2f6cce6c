/** Servers below servers with agents and workloads on each level, all in this process. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { type Logger, nullLogger } from "../../src/core/log.ts";
import { emptyBundle, type TrustBundle } from "../../src/core/trust-bundle.ts";
import { authorityId, parseCertificate, splitDer } from "../../src/core/x509/certificate.ts";
import { verifySvidChain } from "../../src/core/x509/verify.ts";
import { defaultAgentSettings, type RunningAgent, startAgent } from "../../src/modes/agent.ts";
import type { ServerSettings } from "../../src/modes/server/settings.ts";
import { type RunningServer, startServer } from "../../src/modes/server.ts";
import { type Channel, dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { LocalAuthorityService } from "../../src/rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import type { Entry } from "../../src/rpc/gen/spire/api/types/entry.ts";
import type { Client } from "../../src/rpc/service.ts";
import { entryMessage, idMessage, testSettings, trustDomain } from "../server/running.ts";

/** The machine's clock, by which everything that waits comes five times as early. */
const hastyClock: Clock = {
  now: systemClock.now,
  after: (delayMs, callback) => systemClock.after(delayMs / 5, callback),
};

const metadata = { "workload.spiffe.io": "true" };
const sameUser = { type: "unix", value: `uid:${process.getuid?.() ?? 0}` };

export interface Level extends AsyncDisposable {
  readonly server: RunningServer;
  readonly authorities: Client<LocalAuthorityService>;
  /** An agent of this server, with one entry for all processes of this user. */
  agentFor(entry: Partial<Entry>): Promise<TestWorkload>;
  /** Ends the server and starts it again with the same files. */
  restart(): Promise<void>;
}

export interface TestWorkload extends AsyncDisposable {
  /** Socket of the Workload API. */
  readonly socketPath: string;
  readonly api: Client<SpiffeWorkloadAPIService>;
}

export interface LevelOptions {
  readonly settings?: Partial<ServerSettings>;
  readonly log?: Logger;
}

/** Starts a server, in a directory of its own. */
export async function startLevel({ settings = {}, log = nullLogger }: LevelOptions = {}): Promise<Level> {
  const directory = mkdtempSync(join(tmpdir(), "spire-level-"));
  const all: ServerSettings = { ...testSettings(directory), ...settings };
  const start = (bindPort = all.bindPort) => startServer({ ...all, bindPort }, { clock: hastyClock, log });
  let server = await start().catch((error: unknown) => {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  });
  const local = dialUnix(server.socketPath);
  const agents: AsyncDisposable[] = [];
  let agentCount = 0;
  return {
    get server() {
      return server;
    },
    authorities: local.client(LocalAuthorityService),
    async agentFor(entry) {
      agentCount += 1;
      const socketPath = join(directory, `agent-${agentCount}.sock`);
      const agent = await startOneAgent(server, socketPath);
      const parentId = idMessage(agent.agentId.slice(`spiffe://${trustDomain}`.length));
      const entries = [entryMessage({ parentId, selectors: [sameUser], ...entry })];
      await local.client(EntryService).batchCreateEntry({ entries, outputMask: undefined });
      agent.nudge();
      const workload = workloadOf(agent);
      agents.push(workload);
      await untilKnown(workload);
      return workload;
    },
    async restart() {
      const port = Number(server.address.split(":").at(-1));
      await server.close();
      server = await start(port);
    },
    async [Symbol.asyncDispose]() {
      for (const agent of agents) await agent[Symbol.asyncDispose]();
      local.close();
      await server.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function startOneAgent(server: RunningServer, socketPath: string): Promise<RunningAgent> {
  const { token } = await server.registry.createJoinToken({ ttlSeconds: 600 });
  const settings = {
    ...defaultAgentSettings,
    trustDomain,
    serverAddress: server.address,
    socketPath,
    joinToken: token,
    bootstrap: { type: "bundle", bundle: server.bundle() },
  } as const;
  const agent = await startAgent(settings, { clock: hastyClock, log: nullLogger });
  server.onChange(() => agent.nudge());
  return agent;
}

function workloadOf(agent: RunningAgent): TestWorkload {
  const channel: Channel = dialUnix(agent.socketPath);
  return {
    socketPath: agent.socketPath,
    api: channel.client(SpiffeWorkloadAPIService),
    async [Symbol.asyncDispose]() {
      channel.close();
      await agent.close();
    },
  };
}

/** Resolves once the workload has an identity: until its agent has synced it is told that there is none. */
async function untilKnown(workload: TestWorkload): Promise<void> {
  for (;;) {
    try {
      await svidWhen(workload);
      return;
    } catch (error) {
      if (SpireError.from(error).code !== "PERMISSION_DENIED") throw error;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Settings of a server whose upstream authority is the server of `upper`, known to it by `workload`. */
export const below = (upper: Level, workload: TestWorkload): Partial<ServerSettings> => ({
  upstreamAuthority: {
    type: "spire",
    serverAddress: upper.server.address,
    workloadApiSocket: workload.socketPath,
  },
});

export interface HeldSvid {
  readonly chain: readonly Uint8Array[];
  readonly bundle: TrustBundle;
  /** Subject key identifiers of the bundle's roots, hex. */
  readonly roots: readonly string[];
  /** Those of what signed each certificate of the chain, leaf first. */
  readonly issuers: readonly string[];
}

/** The first SVID for which the condition holds, of those that the Workload API gives one after the other. */
export async function svidWhen(
  { api }: TestWorkload,
  condition: (svid: HeldSvid) => boolean = () => true,
): Promise<HeldSvid> {
  const stop = new AbortController();
  try {
    for await (const { svids } of api.fetchX509Svid({}, { metadata, signal: stop.signal })) {
      const [svid] = svids;
      const held = svid && heldOf(svid.x509Svid, svid.bundle);
      if (held && condition(held)) return held;
    }
  } finally {
    stop.abort();
  }
  throw new Error("the stream ended");
}

function heldOf(chainDer: Uint8Array, bundleDer: Uint8Array): HeldSvid {
  const chain = splitDer(chainDer);
  const x509Authorities = splitDer(bundleDer).map((der) => ({ der, tainted: false }));
  return {
    chain,
    bundle: { ...emptyBundle(trustDomain), x509Authorities },
    roots: x509Authorities.map(({ der }) => authorityId(parseCertificate(der))),
    issuers: chain.map((der) => Buffer.from(parseCertificate(der).authorityKeyId ?? []).toString("hex")),
  };
}

/** Whether a workload holds for another one, and it for that, by what each has of its own. */
export function trustEachOther(a: HeldSvid, b: HeldSvid): void {
  const now = Math.floor(Date.now() / 1000);
  verifySvidChain(a.chain, b.bundle, now);
  verifySvidChain(b.chain, a.bundle, now);
}

/** Resolves once the second workload accepts a token of the first one. */
export async function untilTokenHolds(from: TestWorkload, at: TestWorkload): Promise<void> {
  const audience = "other";
  const { svids } = await from.api.fetchJwtsvid({ audience: [audience], spiffeId: "" }, { metadata });
  const svid = svids[0]?.svid ?? "";
  for await (const _ of at.api.fetchJwtBundles({}, { metadata })) {
    try {
      await at.api.validateJwtsvid({ audience, svid }, { metadata });
      return;
    } catch {
      // The key isn't there yet; the next bundle may have it.
    }
  }
}
