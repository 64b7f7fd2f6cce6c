/** Replays recorded runs of spire-server's and spire-agent's commands; state carries over from case to case. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { parseSpiffeId } from "../../src/core/spiffe-id.ts";
import { formatSpiffeBundle } from "../../src/core/trust-bundle.ts";
import type { RunningAgent } from "../../src/modes/agent.ts";
import type { RunningServer } from "../../src/modes/server.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import { SpiffeWorkloadAPIService } from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { until } from "../server/authority-fixture.ts";
import { normalise, normaliseUnordered, type RecordedCase, recordedCases } from "./cases.ts";
import { type Difference, differences } from "./differences.ts";
import {
  agentSocket,
  enterFolder,
  foreignDomain,
  foreignSocket,
  type Run,
  runRecorded,
  serverSocket,
  startForeignServer,
  startRecordedAgent,
  startRecordedServer,
} from "./world.ts";

const serverGroups = [
  "root",
  "down",
  "output",
  "healthcheck",
  "entry-create",
  "entry-show",
  "entry-update",
  "entry-delete",
  "entry-count",
  "agent-list",
  "agent-show",
  "agent-count",
  "agent-ban",
  "agent-evict",
  "agent-purge",
  "bundle-show",
  "bundle-list",
  "bundle-set",
  "bundle-delete",
  "bundle-count",
  "federation-create",
  "federation-update",
  "federation-list",
  "federation-show",
  "federation-delete",
  "federation-refresh",
  "token-generate",
  "jwt-mint",
  "x509-mint",
  "localauthority-x509",
  "localauthority-jwt",
  "upstreamauthority",
  "logger-get",
  "logger-set",
  "logger-reset",
  "debug",
].map((group) => `spire-server/${group}`);
const agentGroups = ["root", "down", "healthcheck", "api-fetch", "api-watch", "api-validate-jwt"].map(
  (group) => `spire-agent/${group}`,
);

/** Needs commands of a later issue. */
const notYet = ["spire-agent/down/logger-get"];

const casesOf = (stage: string) =>
  recordedCases(stage, [...serverGroups, ...agentGroups]).filter(({ id }) => !notYet.includes(id));

/** The order of rows in a listing isn't compared, nor are the texts of libraries that SPIRE quotes. */
const unordered = /\/(agent-list|bundle-list|api-fetch|api-watch)\//;
const quotesLibrary =
  /asn1:|x509:|go-jose|strconv|idna|UNIQUE constraint|proto:|dial tcp|\bjson: |JSON input|invalid character/;

type Comparable = Pick<Run, "exitCode" | "stdout" | "stderr">;

function comparable(run: Comparable, recorded: RecordedCase): Comparable {
  const form = unordered.test(recorded.id) ? normaliseUnordered : normalise;
  const quotes = quotesLibrary.test(recorded.stderr);
  return {
    exitCode: run.exitCode,
    stdout: form(run.stdout),
    stderr: quotes ? normalise(run.stderr).replace(/\(code: (\w+), .*|: .*/g, " $1") : normalise(run.stderr),
  };
}

async function check(recorded: RecordedCase): Promise<Run> {
  const difference = differences[recorded.id];
  const expected = comparable(recorded, recorded);
  const isDone = (run: Run) => isDeepStrictEqual(comparable({ ...run, exitCode: null }, recorded), expected);
  const run = await runRecorded(recorded, isDone);
  const actual = comparable(run, recorded);
  if (difference) expectDifference(run, recorded, difference);
  else expect(actual).toEqual(expected);
  for (const [path, text] of Object.entries(recorded.filesAfter ?? {})) {
    const written = existsSync(path) ? path : join("wout", path);
    expect(normalise(readFileSync(written, "utf8"))).toBe(normalise(text));
  }
  return run;
}

/** One that no longer holds has to leave the list. */
function expectDifference(run: Run, recorded: RecordedCase, { exitCode, stdout }: Difference): void {
  expect(comparable(run, recorded)).not.toEqual(comparable(recorded, recorded));
  expect(run.exitCode).toBe(exitCode ?? recorded.exitCode);
  if (!stdout) return;
  const text = stdout(recorded.stdout);
  expect(comparable(run, recorded).stdout).toBe(comparable({ ...recorded, stdout: text }, recorded).stdout);
}

let leave: () => Promise<void>;
beforeAll(async () => {
  leave = await enterFolder();
});
afterAll(() => leave());

describe("without a server or an agent", () => {
  for (const recorded of casesOf("stage1")) test(recorded.id, () => check(recorded).then(() => {}));
});

describe("with a server and an agent", () => {
  let server: RunningServer;
  let foreign: RunningServer;
  let agent: RunningAgent;
  beforeAll(async () => {
    server = await startRecordedServer();
    foreign = await startForeignServer();
  });
  afterAll(async () => {
    await agent?.close();
    await server?.close();
    await foreign?.close();
  });

  /** What happened between the recorded runs. */
  const meanwhile: Readonly<Record<string, () => Promise<void>>> = {
    "spire-server/agent-list/one": async () => {
      await createToken(recordedToken);
      agent = await startRecordedAgent(server, recordedToken);
    },
    "spire-agent/healthcheck/plain": () => untilWorkloadHas(4),
    "spire-server/agent-list/several": () => addNodes(server),
    "spire-server/agent-purge/dry-run": () => expireAgents(server),
    "spire-server/federation-list/several": () => untilRefreshed(server),
  };

  for (const stage of ["stage2", "stage2b", "stage4"]) {
    for (const recorded of casesOf(stage)) {
      test(recorded.id, async () => {
        await meanwhile[recorded.id]?.();
        await check(await refreshed(withForeignServer(recorded, foreign)));
      });
    }
  }
});

/** With the trust domain's bundle and endpoint of this run. */
function withForeignServer(recorded: RecordedCase, foreign: RunningServer): RecordedCase {
  const address = foreign.bundleEndpointAddress ?? "";
  const replaced: RecordedCase = JSON.parse(JSON.stringify(recorded).replaceAll("127.0.0.1:28443", address));
  if (recorded.files?.["ob.json"] === undefined) return replaced;
  return { ...replaced, files: { "ob.json": formatSpiffeBundle(foreign.bundle()) } };
}

/** Waits until the other trust domain's bundle is the one that its endpoint serves. */
const untilRefreshed = ({ registry }: RunningServer): Promise<void> =>
  until(() => registry.bundles.get(foreignDomain)?.refreshHint === 300);

describe("with a server of its own for the authorities", () => {
  let server: RunningServer;
  beforeAll(async () => {
    server = await startForeignServer();
  });
  afterAll(() => server?.close());

  /** Recorded authority ID > the one in this run. */
  const ids = new Map<string, string>();
  const here = (argument: string) =>
    argument === serverSocket ? foreignSocket : (ids.get(argument) ?? argument);

  for (const recorded of casesOf("stage3")) {
    test(recorded.id, async () => {
      const run = await check({ ...recorded, argv: recorded.argv.map(here) });
      const actual = authorityIds(run.stdout);
      authorityIds(recorded.stdout).forEach((id, at) => void ids.set(id, actual[at] ?? ""));
    });
  }
});

const authorityIds = (text: string): string[] =>
  [...text.matchAll(/(?:Authority ID: |"authority_id":")(\w+)/g)].map(([, id = ""]) => id);

/** The agent that was there when the runs were recorded. */
const recordedToken = "4992d06f-8027-4c0e-94f2-b97385386d70";

async function createToken(token: string): Promise<void> {
  const channel = dialUnix(serverSocket);
  await channel.client(AgentService).createJoinToken({ ttl: 600, token, agentId: undefined });
  channel.close();
}

/** Waits for the stream that has as many identities. */
async function untilWorkloadHas(count: number): Promise<void> {
  const channel = dialUnix(agentSocket);
  const options = { metadata: { "workload.spiffe.io": "true" } };
  for await (const { svids } of channel.client(SpiffeWorkloadAPIService).fetchX509Svid({}, options)) {
    if (svids.length === count) break;
  }
  channel.close();
}

/** Recorded tokens have expired: those that count are fetched anew. */
async function refreshed(recorded: RecordedCase): Promise<RecordedCase> {
  const fresh = /validate-jwt\/(ok|ok\.json-output|wrong-audience|bad-signature)$/.exec(recorded.id)?.[1];
  if (!fresh) return recorded;
  const token = await fetchToken();
  const svid = fresh === "bad-signature" ? `${token.slice(0, -6)}AAAAAA` : token;
  const claims = Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8");
  const { exp, iat } = JSON.parse(claims) as { exp: number; iat: number };
  const retimed = (text: string) =>
    text.replace(/"exp":\d+/g, `"exp":${exp}`).replace(/"iat":\d+/g, `"iat":${iat}`);
  return {
    ...recorded,
    argv: recorded.argv.map((argument) => (argument.startsWith("eyJ") ? svid : argument)),
    stdout: retimed(recorded.stdout),
  };
}

async function fetchToken(): Promise<string> {
  const channel = dialUnix(agentSocket);
  const request = { audience: ["aud1"], spiffeId: "spiffe://example.org/w1" };
  const options = { metadata: { "workload.spiffe.io": "true" } };
  const { svids } = await channel.client(SpiffeWorkloadAPIService).fetchJwtsvid(request, options);
  channel.close();
  return svids[0]?.svid ?? "";
}

interface RecordedAgent {
  readonly id: { readonly path: string };
  readonly attestation_type: string;
  readonly banned: boolean;
  readonly can_reattest: boolean;
  readonly agent_version: string;
  readonly x509svid_serial_number: string;
}

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600;
const x509popSelectors = [
  { type: "x509pop", value: "ca:fingerprint:22cf923a19ab7744ee3c49f2c44b87ae953cad35" },
  { type: "x509pop", value: "serialnumber:7c4d010f890ca82ed1c72e991f88ecaac9047dee" },
  { type: "x509pop", value: "subject:cn:node1" },
];

/** The agents that other recordings had attested in the meantime. */
async function addNodes(server: RunningServer): Promise<void> {
  const path = join(import.meta.dir, "../golden/cli/spire-server/agent-list/several.json-output.json");
  const recorded = JSON.parse(readFileSync(path, "utf8")) as { stdout: string };
  const { agents } = JSON.parse(recorded.stdout) as { agents: RecordedAgent[] };
  for (const node of agents) {
    if (node.id.path.endsWith(recordedToken)) continue;
    await server.registry.store.nodes.put({
      id: parseSpiffeId(`spiffe://example.org${node.id.path}`),
      attestationType: node.attestation_type,
      serialNumber: node.banned ? "" : node.x509svid_serial_number,
      expiresAt: inAnHour(),
      newSerialNumber: "",
      newExpiresAt: 0,
      canReattest: node.can_reattest,
      agentVersion: node.agent_version,
      selectors: node.attestation_type === "x509pop" ? x509popSelectors : [],
    });
  }
}

/** One agent that may re-attest and one that may not expired forty days ago. */
async function expireAgents(server: RunningServer): Promise<void> {
  const { items } = await server.registry.store.nodes.list({}, { size: 0, token: "" });
  const expiresAt = Math.floor(Date.now() / 1000) - 40 * 86_400;
  const popAgent = items.find(({ attestationType }) => attestationType === "x509pop");
  const tokenAgent = items.find(({ id, canReattest }) => !canReattest && !id.endsWith(recordedToken));
  for (const node of [popAgent, tokenAgent]) {
    if (node) await server.registry.store.nodes.update(node.id, { expiresAt });
  }
}
