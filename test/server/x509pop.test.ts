/** An agent that proves itself by a certificate, from its first attestation to its ban; server and agent are real. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { hash } from "node:crypto";
import { join } from "node:path";
import type { AgentAttestorConfig } from "../../src/config/agent.ts";
import type { SpireError } from "../../src/core/errors.ts";
import { type Logger, nullLogger } from "../../src/core/log.ts";
import { makeSpiffeId, pathOf } from "../../src/core/spiffe-id.ts";
import {
  type AgentSettings,
  defaultAgentSettings,
  type RunningAgent,
  startAgent,
} from "../../src/modes/agent.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import type { Agent } from "../../src/rpc/gen/spire/api/types/agent.ts";
import { createPemFolder, makeNodeCertificate, type NodeCertificate } from "../contract/node-certificates.ts";
import { entryMessage, idMessage, startTestServer, type TestServer, trustDomain } from "./running.ts";

const folder = createPemFolder();
let running: TestServer;
let ca: NodeCertificate;
const agents: RunningAgent[] = [];

beforeAll(async () => {
  ca = await makeNodeCertificate({ ca: true });
  const limits = { maxIntermediates: 4, maxRsaKeySize: 8192, verifyClientIp: true };
  running = await startTestServer({
    agentTtlSeconds: 600,
    agentIdAsSelector: true,
    nodeAttestors: [
      { type: "join_token" },
      {
        type: "x509pop",
        trust: { mode: "external_pki", caBundlePaths: [folder.write("ca.pem", ca.pem)] },
        ...limits,
      },
    ],
  });
});
afterAll(async () => {
  for (const agent of agents) await agent.close();
  await running.close();
  folder.remove();
});

/** Counts lines of the log by message; `next` resolves with the next one. */
function createLogWatch(message: string) {
  let count = 0;
  let waiting = Promise.withResolvers<void>();
  const note = (text: string) => {
    if (text !== message) return;
    count += 1;
    waiting.resolve();
    waiting = Promise.withResolvers();
  };
  const log: Logger = { ...nullLogger, info: note, with: () => log };
  return { log, next: () => waiting.promise, count: () => count };
}

const attested = "Node attestation was successful";

interface Start {
  readonly nodeAttestor: AgentAttestorConfig;
  readonly log?: Logger;
  readonly settings?: Partial<AgentSettings>;
  readonly server?: TestServer;
}

let sockets = 0;
async function start({
  nodeAttestor,
  log = nullLogger,
  settings,
  server = running,
}: Start): Promise<RunningAgent> {
  sockets += 1;
  const agent = await startAgent(
    {
      ...defaultAgentSettings,
      trustDomain,
      serverAddress: server.server.address,
      socketPath: join(server.settings.dataDir, `agent-${sockets}.sock`),
      bootstrap: { type: "bundle", bundle: server.server.bundle() },
      nodeAttestor,
      ...settings,
    },
    { clock: server.clock, log },
  );
  agents.push(agent);
  return agent;
}

async function writeNode(name: string, request: { readonly ips?: readonly string[] } = {}) {
  const node = await makeNodeCertificate({
    issuer: ca,
    subject: `CN=${name}`,
    ips: ["127.0.0.1"],
    ...request,
  });
  const config = {
    type: "x509pop",
    source: "files",
    certificatePath: folder.write(`${name}.pem`, node.pem),
    privateKeyPath: folder.write(`${name}.key`, node.keyPem),
  } as const;
  return { config, path: `/spire/agent/x509pop/${hash("sha1", node.der)}` };
}

const agentsApi = () => running.local.client(AgentService);

const agentAt = (path: string): Promise<Agent> =>
  agentsApi().getAgent({ id: idMessage(path), outputMask: undefined });

describe("an agent with a certificate", () => {
  test("attests, and the server knows what it is", async () => {
    const { config, path } = await writeNode("first");
    const agent = await start({ nodeAttestor: config });
    expect(agent.agentId).toBe(makeSpiffeId(trustDomain, path));
    const { attestationType, canReattest, selectors } = await agentAt(path);
    expect({ attestationType, canReattest }).toEqual({ attestationType: "x509pop", canReattest: true });
    expect(selectors).toEqual([
      { type: "spiffe_id", value: agent.agentId },
      { type: "x509pop", value: `ca:fingerprint:${hash("sha1", ca.der)}` },
      { type: "x509pop", value: "serialnumber:0a0b0c" },
      { type: "x509pop", value: "subject:cn:first" },
    ]);
  });

  test("attests anew, with a new certificate if there is one, where others renew", async () => {
    const { config, path } = await writeNode("renewing");
    const watch = createLogWatch(attested);
    const agent = await start({ nodeAttestor: config, log: watch.log });
    const { x509svidSerialNumber: before } = await agentAt(path);
    const renewal = watch.next();
    running.clock.putForward(400_000);
    agent.nudge();
    await renewal;
    expect((await agentAt(path)).x509svidSerialNumber).not.toBe(before);

    const { path: newPath } = await writeNode("renewing");
    const change = watch.next();
    running.clock.putForward(400_000);
    agent.nudge();
    await change;
    expect(pathOf(agent.agentId)).toBe(newPath);
    expect(watch.count()).toBe(3);
  });

  test("comes back after its eviction, and ends when it is banned", async () => {
    const { config, path } = await writeNode("evicted");
    const watch = createLogWatch(attested);
    const agent = await start({ nodeAttestor: config, log: watch.log });
    const again = watch.next();
    await agentsApi().deleteAgent({ id: idMessage(path) });
    agent.nudge();
    await again;
    expect((await agentAt(path)).banned).toBe(false);

    await agentsApi().banAgent({ id: idMessage(path) });
    agent.nudge();
    const ending = await agent.stopped;
    expect(ending?.code).toBe("PERMISSION_DENIED");
    expect(await failure(start({ nodeAttestor: config }))).toBe("failed to attest: agent is banned");
  });

  test("is refused when its certificate names another address", async () => {
    const { config } = await writeNode("elsewhere", { ips: ["192.0.2.1"] });
    expect(await failure(start({ nodeAttestor: config }))).toBe(
      "nodeattestor(x509pop): client IP 127.0.0.1 does not match any certificate IP SAN",
    );
  });

  test("doesn't start without its files", async () => {
    const { config } = await writeNode("missing");
    const nodeAttestor = { ...config, certificatePath: "/nowhere/node.pem" };
    expect(await failure(start({ nodeAttestor }))).toStartWith(
      'x509pop: unable to load certificate "/nowhere/node.pem": ENOENT',
    );
  });
});

test("an agent attests by the SVID that another agent gives it", async () => {
  const server = await startTestServer({
    nodeAttestors: [
      { type: "join_token" },
      {
        type: "x509pop",
        trust: { mode: "spiffe", prefix: "/spire-exchange/" },
        maxIntermediates: 4,
        maxRsaKeySize: 8192,
        verifyClientIp: false,
      },
    ],
  });
  try {
    const { token } = await server.server.registry.createJoinToken({ ttlSeconds: 600 });
    const first = await start({
      server,
      nodeAttestor: { type: "join_token" },
      settings: { joinToken: token },
    });
    const entry = entryMessage({
      parentId: idMessage(pathOf(first.agentId)),
      spiffeId: idMessage("/spire-exchange/rack/node7"),
      selectors: [{ type: "unix", value: `uid:${process.getuid?.() ?? 0}` }],
    });
    await server.local.client(EntryService).batchCreateEntry({ entries: [entry], outputMask: undefined });
    first.nudge();
    const nodeAttestor = { type: "x509pop", source: "workload-api", socketPath: first.socketPath } as const;
    const second = await start({ server, nodeAttestor });
    expect(pathOf(second.agentId)).toBe("/spire/agent/x509pop/rack/node7");
    await second.close();
    await first.close();
  } finally {
    await server.close();
  }
});

const failure = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return "none";
  } catch (error) {
    return (error as SpireError).message;
  }
};
