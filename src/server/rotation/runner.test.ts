import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createManualClock, type ManualClock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import { nullLogger } from "../../core/log.ts";
import type { MetricLabels, Metrics } from "../../core/metrics.ts";
import { makeSpiffeId, parseTrustDomain, type SpiffeId } from "../../core/spiffe-id.ts";
import type { RotationRecord, RotationStore } from "../../plugins/datastores/index.ts";
import type { RotationRequest, Stage } from "./operation.ts";
import { createRotationRunner, type RotationRunner, type RotationState } from "./runner.ts";
import type { RotationSteps } from "./steps.ts";
import { nobody, type Waiting, type WaitingAgent } from "./waiting.ts";

const request: RotationRequest = {
  kinds: ["x509"],
  emergency: false,
  ignoreMinted: false,
  ignoreDownstream: false,
};
const agent = makeSpiffeId(parseTrustDomain("example.org"), "/spire/agent/a");
const waitingAgent: WaitingAgent = {
  id: agent,
  version: "",
  lastSeenAt: 0,
  reason: "bundle",
  svids: 0,
  until: 0,
};
const held: Waiting = { agents: [waitingAgent], others: [] };

let clock: ManualClock;
let runners: RotationRunner[];
let records: RotationRecord[];
let movedAgents: SpiffeId[];
let taken: string[];
let failures: Map<string, SpireError>;
/** The stage in which an agent is waited for. */
let heldIn: Stage | undefined;
let waitedFor: WaitingAgent;
let progress: () => void;
let measured: Map<string, number>;
beforeEach(() => {
  clock = createManualClock(1_800_000_000_000);
  runners = [];
  records = [];
  movedAgents = [];
  taken = [];
  failures = new Map();
  heldIn = undefined;
  waitedFor = waitingAgent;
  measured = new Map();
});
afterEach(() => Promise.all(runners.map((runner) => runner.close())));

function step(name: string): void {
  taken.push(name);
  const failure = failures.get(name);
  if (failure) throw failure;
}

const steps: RotationSteps = {
  requireReplaceable: () => step("check"),
  async prepare() {
    step("prepare");
    return { replacements: [{ kind: "x509", next: "n", old: ["o"], tainted: [] }], bundleSequence: 2 };
  },
  async activate(_, refuse) {
    if (refuse()) return "refused";
    step("activate");
    return "activated";
  },
  async taint() {
    step("taint");
    return { bundleSequence: 3 };
  },
  async revoke() {
    step("revoke");
  },
  requireUndoable: () => step("check undo"),
  async undo() {
    step("undo");
  },
};

const store: RotationStore = {
  latest: async () => records.at(-1),
  async put(record) {
    const failure = failures.get("put");
    if (failure) throw failure;
    records = [...records.filter(({ id }) => id !== record.id), record];
  },
  moved: async () => movedAgents,
  async addMoved(_, agents) {
    movedAgents.push(...agents);
  },
  async clearMoved() {
    movedAgents = [];
  },
};

const name = (words: readonly string[], labels: MetricLabels = {}) =>
  [...words, ...Object.values(labels)].join(" ");
const metrics: Metrics = {
  gauge: (words, value, labels) => void measured.set(name(words, labels), value),
  counter: (words, by, labels) =>
    void measured.set(name(words, labels), (measured.get(name(words, labels)) ?? 0) + by),
  sample() {},
};

/** On the same store, as after a restart. */
async function open(): Promise<RotationRunner> {
  const runner = await createRotationRunner({
    store,
    steps,
    waitingList: {
      lackingBundle: () => {
        if (heldIn !== "distributing") return nobody;
        return waitedFor === waitingAgent ? held : { agents: [waitedFor], others: [] };
      },
      notMoved(_, moved, noteMoved) {
        if (heldIn === "moving") return { agents: [waitedFor], others: [] };
        if (!moved.has(agent)) noteMoved(agent);
        return nobody;
      },
      onProgress(listener) {
        progress = listener;
        return () => {};
      },
    },
    clock,
    log: nullLogger,
    metrics,
  });
  runners.push(runner);
  return runner;
}

async function until(runner: RotationRunner, stage: Stage): Promise<RotationState> {
  for (;;) {
    await clock.advance(100);
    const state = runner.state();
    if (state.operation.stage === stage) return state;
  }
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "OK",
    (error: unknown) => SpireError.from(error).code,
  );
const whole = ["check", "prepare", "activate", "taint", "revoke"];

describe("a rotation", () => {
  test("takes each step once, and tells stage and result to the metrics", async () => {
    const runner = await open();
    expect(() => runner.state()).toThrow("no rotation was started on this server");
    await runner.start(request);
    await until(runner, "done");
    expect(taken).toEqual(whole);
    expect(Object.fromEntries(measured)).toEqual({
      "rotation stage preparing": 0,
      "rotation stage distributing": 0,
      "rotation stage activating": 0,
      "rotation stage tainting": 0,
      "rotation stage moving": 0,
      "rotation stage revoking": 0,
      "rotation stage done": 1,
      "rotation result done": 1,
      "rotation waiting_agents": 0,
    });
  });

  test("waits as long as there is somebody to wait for, and looks as soon as something may have changed", async () => {
    const runner = await open();
    heldIn = "distributing";
    await runner.start(request);
    await until(runner, "distributing");
    await clock.advance(60_000);
    expect(taken).toEqual(["check", "prepare"]);
    expect(runner.state().waiting).toBe(held);
    expect(measured.get("rotation waiting_agents")).toBe(1);
    heldIn = undefined;
    progress();
    await clock.advance(20);
    await clock.advance(0);
    expect(taken).toContain("activate");
  });

  test("goes back to waiting when an agent without the bundle turns up at the last moment", async () => {
    const runner = await open();
    await runner.start(request);
    const activate = steps.activate;
    let isFirst = true;
    const late: RotationSteps["activate"] = async (operation, refuse) => {
      if (isFirst) heldIn = "distributing";
      isFirst = false;
      return activate(operation, refuse);
    };
    Object.assign(steps, { activate: late });
    try {
      for (let look = 0; look < 20; look += 1) await clock.advance(100);
      expect(runner.state().operation).toMatchObject({ stage: "distributing", bundleSequence: 2 });
      heldIn = undefined;
      await until(runner, "done");
    } finally {
      Object.assign(steps, { activate });
    }
    expect(taken).toEqual(whole);
  });

  test("goes on after a restart, with the agents that have moved", async () => {
    const first = await open();
    heldIn = "moving";
    await first.start(request);
    await until(first, "moving");
    await first.close();
    movedAgents = [agent];
    const second = await open();
    expect(second.state()).toMatchObject({ operation: { stage: "moving" }, waiting: held });
    expect([second.holds("x509"), second.holds("jwt")]).toEqual([true, false]);
    heldIn = undefined;
    await until(second, "done");
    expect([taken, movedAgents, second.holds("x509")]).toEqual([whole, [], false]);
  });

  test("tries again what failed for a reason that may pass", async () => {
    const runner = await open();
    failures.set("taint", new SpireError("RESOURCE_EXHAUSTED", "the disk is full"));
    await runner.start(request);
    await until(runner, "tainting");
    await clock.advance(5_000);
    expect(runner.state()).toMatchObject({ failure: "the disk is full", operation: { stopped: false } });
    failures.clear();
    await until(runner, "done");
    expect(runner.state().failure).toBe("");
  });

  test("stops at what will not pass, and is resumed or undone", async () => {
    const runner = await open();
    failures.set("activate", new SpireError("FAILED_PRECONDITION", "it is gone"));
    await runner.start(request);
    while (!runner.state().operation.stopped) await clock.advance(100);
    expect(runner.state().operation).toMatchObject({ stage: "activating", problem: "it is gone" });
    failures.clear();
    await runner.resume();
    await until(runner, "done");
  });

  test("that can't be undone says so, and is as it was", async () => {
    const runner = await open();
    heldIn = "distributing";
    await runner.start(request);
    await until(runner, "distributing");
    failures.set("check undo", new SpireError("FAILED_PRECONDITION", "its key is gone"));
    expect(await codeOf(runner.undo())).toBe("FAILED_PRECONDITION");
    expect(runner.state().operation).toMatchObject({ stage: "distributing", stopped: false });
    failures.clear();
    failures.set("undo", new SpireError("FAILED_PRECONDITION", "its key is gone after all"));
    await runner.undo();
    while (!runner.state().operation.stopped) await clock.advance(100);
    expect(runner.state().operation).toMatchObject({
      stage: "activating",
      problem: "its key is gone after all",
    });
  });

  test("is undone, and counted as that", async () => {
    const runner = await open();
    heldIn = "distributing";
    await runner.start(request);
    await until(runner, "distributing");
    await runner.stop();
    await runner.undo();
    await until(runner, "undone");
    expect(taken).toEqual(["check", "prepare", "check undo", "undo"]);
    expect([measured.get("rotation result undone"), measured.get("rotation stage undone")]).toEqual([1, 1]);
  });

  test.each([
    ["distributing", ["check", "prepare"]],
    ["moving", ["check", "prepare", "activate", "taint"]],
  ] as const)("in an emergency gives agents that are there a moment in %s", async (stage, before) => {
    const runner = await open();
    heldIn = stage;
    waitedFor = { ...waitingAgent, lastSeenAt: clock.now() / 1_000, until: Number.MAX_SAFE_INTEGER };
    await runner.start({ ...request, emergency: true });
    const { waiting, operation } = await until(runner, stage);
    expect(waiting.agents).toEqual([{ ...waitedFor, until: operation.stageSince + 15 }]);
    expect(taken).toEqual([...before]);
    await clock.advance(15_000);
    await until(runner, "done");
    expect(taken).toEqual(whole);
  });

  test("in an emergency doesn't wait for an agent that is away", async () => {
    const runner = await open();
    heldIn = "moving";
    waitedFor = { ...waitingAgent, lastSeenAt: clock.now() / 1_000 - 61 };
    await runner.start({ ...request, emergency: true });
    await until(runner, "done");
    expect(taken).toEqual(whole);
  });

  test("becomes an emergency while it is under way", async () => {
    const runner = await open();
    heldIn = "distributing";
    await runner.start(request);
    await until(runner, "distributing");
    expect(await codeOf(runner.start(request))).toBe("FAILED_PRECONDITION");
    await runner.start({ ...request, emergency: true });
    await until(runner, "done");
    expect(taken).toEqual(whole);
  });

  test("is not started when that can't be written down, or it can't be done", async () => {
    const runner = await open();
    failures.set("put", new SpireError("RESOURCE_EXHAUSTED", "the disk is full"));
    expect(await codeOf(runner.start(request))).toBe("RESOURCE_EXHAUSTED");
    expect(runner.holds("x509")).toBe(false);
    failures.clear();
    failures.set("check", new SpireError("FAILED_PRECONDITION", "upstream"));
    expect(await codeOf(runner.start(request))).toBe("FAILED_PRECONDITION");
    expect(records).toEqual([]);
  });

  test("whose record can't be read is not gone on with", async () => {
    records = [{ id: "x", data: "{" }];
    const runner = await open();
    expect(() => runner.state()).toThrow();
    await runner.start(request);
    await until(runner, "done");
  });

  test("is watched from state to state, to its end", async () => {
    const runner = await open();
    heldIn = "distributing";
    await runner.start(request);
    const stages: string[] = [];
    const watching = (async () => {
      for await (const { operation } of runner.watch(new AbortController().signal))
        stages.push(operation.stage);
    })();
    await until(runner, "distributing");
    heldIn = undefined;
    await until(runner, "done");
    await watching;
    expect([...new Set(stages)].at(-1)).toBe("done");
    expect(stages).toContain("distributing");
  });
});
