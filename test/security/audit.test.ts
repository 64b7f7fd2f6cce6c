/** What the logs say of calls: all that changes something, and no secret. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import { generateKey } from "../../src/core/keys.ts";
import { AgentService } from "../../src/rpc/gen/spire/api/server/agent/v1/agent.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { SVIDService } from "../../src/rpc/gen/spire/api/server/svid/v1/svid.ts";
import { BundleHistoryService } from "../../src/rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import { RotationService } from "../../src/rpc/gen/spire/server/rotation/v1/rotation.ts";
import { methodRules } from "../../src/rpc/server-methods.ts";
import { isDescribed } from "../../src/server/audit/describe.ts";
import { attestWith, csrOf, idMessage, startTestServer, type TestServer } from "../server/running.ts";

let running: TestServer;
beforeEach(async () => {
  running = await startTestServer({ auditLog: true });
});
afterEach(() => running.close());

const auditOf = (method: string) =>
  running.logLines.filter((line) => line["type"] === "audit" && line["method"] === method);

test("every method is audited but those that only show the state of the program", () => {
  const unaudited = [...methodRules.keys()].filter((method) => !isDescribed(method));
  expect(unaudited.filter((method) => !/^\/(grpc\.health|spire\.api\.server\.debug)\./.test(method))).toEqual(
    [],
  );
});

test("a rotation and a restored bundle are audited with what was asked for", async () => {
  const rotation = running.local.client(RotationService);
  await rotation.startRotation({
    kinds: ["jwt"],
    emergency: true,
    ignoreMinted: false,
    ignoreDownstream: false,
  });
  await running.local.client(BundleHistoryService).restoreVersion({ sequenceNumber: 1 });
  expect(auditOf("StartRotation")).toMatchObject([{ kinds: "jwt", emergency: true, authorized_as: "local" }]);
  expect(auditOf("RestoreVersion")).toMatchObject([{ sequence_number: 1, status: "success" }]);
});

/** Unused, a token is as good as an agent's identity. */
test("no join token and no issued token is in any line, at whatever level, whether a call succeeds or fails", async () => {
  const agents = running.local.client(AgentService);
  const { value: token } = await agents.createJoinToken({
    ttl: 600,
    token: "",
    agentId: idMessage("/alias"),
  });
  const csr = await csrOf(await generateKey("ec-p256"));
  const refuse = (error: unknown) => SpireError.from(error);
  await attestWith(running.anonymous.client(AgentService), token, Buffer.from("no CSR")).catch(refuse);
  await attestWith(running.anonymous.client(AgentService), `${token}0`, csr).catch(refuse);
  await agents.createJoinToken({ ttl: 600, token, agentId: undefined }).catch(refuse);
  await agents.createJoinToken({ ttl: -1, token, agentId: undefined }).catch(refuse);
  await running.local.client(EntryService).listEntries({
    filter: undefined,
    outputMask: undefined,
    pageSize: 0,
    pageToken: "",
  });
  const svids = running.local.client(SVIDService);
  const { svid } = await svids.mintJwtsvid({ id: idMessage("/web"), audience: ["a"], ttl: 0 });
  const text = running.logLines.map((line) => JSON.stringify(line)).join("\n");
  expect(text).toContain("CreateJoinToken");
  expect(text).not.toContain(token);
  expect(text).not.toContain(svid?.token ?? "no token");
});

test("a stranger's megabytes don't become the log's", async () => {
  const conversation = running.anonymous.client(AgentService).attestAgent();
  const type = "x".repeat(3_000_000);
  const csr = await csrOf(await generateKey("ec-p256"));
  await conversation.send({
    step: { $case: "params", value: { data: { type, payload: Buffer.from("x") }, params: { csr } } },
  });
  await conversation.receive().catch(() => {});
  const written = running.logLines.filter((line) => line["method"] === "AttestAgent");
  expect(written.length).toBeGreaterThan(0);
  expect(JSON.stringify(written).length).toBeLessThan(300_000);
});
