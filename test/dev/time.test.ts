/** Time passing over an instance: past every expiry while it was down, and while it runs. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock, type ManualClock } from "../../src/core/clock.ts";
import { nullLogger } from "../../src/core/log.ts";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { type DevSettings, type RunningDev, startDev } from "../../src/modes/dev.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";

const hour = 3_600_000;
const header = { metadata: { "workload.spiffe.io": "true" } };
let directory: string;
let runtimeDirectory: string | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "spire-time-"));
  runtimeDirectory = process.env["XDG_RUNTIME_DIR"];
  process.env["XDG_RUNTIME_DIR"] = directory;
});

afterEach(() => {
  if (runtimeDirectory === undefined) delete process.env["XDG_RUNTIME_DIR"];
  else process.env["XDG_RUNTIME_DIR"] = runtimeDirectory;
  rmSync(directory, { recursive: true, force: true });
});

const settings = (): DevSettings => ({
  dataDir: join(directory, "state"),
  bindAddress: "127.0.0.1",
  port: 0,
  entries: [],
  version: "0.0.0",
});

const start = (clock: ManualClock): Promise<RunningDev> => startDev(settings(), { clock, log: nullLogger });

/** Expiry times (ms) of the SVIDs in each update of an open stream. */
async function* expiries(dev: RunningDev): AsyncGenerator<number> {
  const channel = dialUnix(dev.workloadApiSocket);
  try {
    for await (const { svids } of channel.client(SpiffeWorkloadAPIService).fetchX509Svid({}, header)) {
      const [svid] = svids;
      if (svid) yield parseCertificate(svid.x509Svid).notAfter * 1000;
    }
  } finally {
    channel.close();
  }
}

async function firstExpiry(dev: RunningDev): Promise<number> {
  for await (const expiry of expiries(dev)) return expiry;
  throw new Error("the stream ended");
}

test("a restart after every certificate has expired keeps agent and entries, and serves", async () => {
  const before = createManualClock(Date.now());
  const first = await start(before);
  const { agentId, entries, caSha256 } = first;
  await first.close();

  const after = createManualClock(Date.now() + 30 * 24 * hour);
  const second = await start(after);
  try {
    expect(second.agentId).toBe(agentId);
    expect(second.entries).toEqual(entries);
    expect(second.caSha256).not.toBe(caSha256);
    expect(await firstExpiry(second)).toBeGreaterThan(after.now());
  } finally {
    await second.close();
  }
});

test("a step past every expiry is recovered from without a restart, on the open stream", async () => {
  const clock = createManualClock(Date.now());
  const dev = await start(clock);
  try {
    for await (const expiry of expiries(dev)) {
      if (expiry > clock.now() && clock.now() > Date.now() + 24 * hour) break;
      // Not awaited: the stream's next update is what is waited for.
      if (clock.now() < Date.now() + 24 * hour) void clock.advance(48 * hour);
    }
  } finally {
    await dev.close();
  }
});
