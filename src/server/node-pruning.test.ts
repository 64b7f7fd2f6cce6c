import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  hour,
  startSeconds,
  trustDomain,
  until,
} from "../../test/server/authority-fixture.ts";
import { type LogFields, nullLogger } from "../core/log.ts";
import type { AttestedNode } from "../core/node.ts";
import { makeSpiffeId } from "../core/spiffe-id.ts";
import type { Task } from "../core/tasks.ts";
import { startNodePruning } from "./node-pruning.ts";

let fixture: AuthorityFixture;
let lines: { message: string; fields: LogFields }[];
const tasks: Task[] = [];
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  lines = [];
});
afterEach(async () => {
  await Promise.all(tasks.splice(0).map((task) => task.stop()));
  await fixture.close();
});

const log = { ...nullLogger, with: (fields: LogFields) => logWith(fields) };
const logWith = (common: LogFields) => {
  const add = (message: string, fields: LogFields = {}) =>
    void lines.push({ message, fields: { ...common, ...fields } });
  return { ...nullLogger, info: add, error: add };
};

function start(options: Partial<Parameters<typeof startNodePruning>[0]> = {}): void {
  const { registry, clock } = fixture;
  const usual = { expiredForMs: 2 * hour * 1000, batchSize: 1000, includeTofu: false };
  tasks.push(startNodePruning({ registry, clock, log, ...usual, ...options }));
}

const id = (name: string) => makeSpiffeId(trustDomain, `/spire/agent/x509pop/${name}`);
const put = (name: string, fields: Partial<AttestedNode> = {}) =>
  fixture.registry.putNode({
    id: id(name),
    attestationType: "x509pop",
    serialNumber: "1",
    expiresAt: startSeconds - 3 * hour,
    newSerialNumber: "",
    newExpiresAt: 0,
    canReattest: true,
    agentVersion: "",
    selectors: [],
    ...fields,
  });
const names = async () =>
  (await fixture.registry.listNodes({}, { size: 0, token: "" })).items.map((node) =>
    node.id.split("/").at(-1),
  );

const pruned = () => lines.filter(({ message }) => message === "Pruned expired agents");

/** Lets the next round come and end. */
async function nextRound(): Promise<void> {
  const before = lines.length;
  await fixture.clock.advance(75 * 60_000);
  await until(() => lines.length > before);
}

test("agents that ended long enough ago go; banned ones and those that can't come back stay", async () => {
  await put("long-gone");
  await put("banned", { serialNumber: "" });
  await put("tofu", { canReattest: false });
  // The round comes between 45 and 75 minutes after the start.
  await put("too-young", { expiresAt: startSeconds - hour + 15 * 60 });
  await put("alive", { expiresAt: startSeconds + 10 * hour });
  start();
  await nextRound();
  expect(await names()).toEqual(["banned", "tofu", "too-young", "alive"]);
  expect(pruned()).toMatchObject([{ fields: { count: 1 } }]);
});

test("those that can't come back go where that is asked for, but for banned ones", async () => {
  await put("tofu", { canReattest: false });
  await put("banned", { canReattest: false, serialNumber: "" });
  start({ includeTofu: true });
  await nextRound();
  expect(await names()).toEqual(["banned"]);
});

test("a round takes a batch, the next one the rest", async () => {
  for (const name of ["a", "b", "c"]) await put(name);
  start({ batchSize: 2 });
  await nextRound();
  expect(await names()).toEqual(["c"]);
  while (pruned().length < 2) await nextRound();
  expect(await names()).toEqual([]);
  expect(pruned().map(({ fields }) => fields["count"])).toEqual([2, 1]);
});

test("rounds come about once an hour, the first one too", async () => {
  await put("long-gone");
  start();
  const [{ message, fields } = { message: "", fields: {} }] = lines;
  expect(message).toBe("Periodic prune of expired nodes started");
  expect(fields).toMatchObject({ expired_for: "2h0m0s", include_tofu: false });
  expect(String(fields["retry_interval"])).toMatch(/^(4[5-9]m|5\dm|1h\dm|1h1[0-4]m|1h15m0s)/);
  await fixture.clock.advance(44 * 60_000);
  expect(await names()).toEqual(["long-gone"]);
  await fixture.clock.advance(31 * 60_000);
  await until(() => pruned().length === 1);
  expect(await names()).toEqual([]);
});

test("a round that fails is told of, and does not end the pruning", async () => {
  await put("long-gone");
  let failures = 1;
  const registry = {
    ...fixture.registry,
    purgeAgents: async (...args: Parameters<typeof fixture.registry.purgeAgents>) => {
      if (failures-- > 0) throw new Error("disk on fire");
      return fixture.registry.purgeAgents(...args);
    },
  };
  start({ registry });
  await nextRound();
  expect(lines.at(-1)?.message).toBe("Failed during periodic pruning of expired nodes");
  await nextRound();
  await until(() => pruned().length === 1);
  expect(await names()).toEqual([]);
});
