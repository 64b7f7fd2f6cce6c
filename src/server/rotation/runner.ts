/** Runs the rotation that is under way: stage by stage, each written down before the next, also after a restart. */
import { randomUUID } from "node:crypto";
import { type Clock, unixSeconds } from "../../core/clock.ts";
import { notFound, SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { Metrics } from "../../core/metrics.ts";
import type { SpiffeId } from "../../core/spiffe-id.ts";
import { startTask } from "../../core/tasks.ts";
import type { RotationStore } from "../../plugins/datastores/index.ts";
import type { AuthorityKind } from "../journal.ts";
import {
  advance,
  backToDistributing,
  begin,
  escalate,
  formatOperation,
  isFinished,
  isWaiting,
  notUndone,
  type Operation,
  type Outcome,
  parseOperation,
  type RotationRequest,
  resume,
  type Stage,
  stop,
  undo,
  waitsUntil,
} from "./operation.ts";
import type { RotationSteps } from "./steps.ts";
import { nobody, type Waiting, type WaitingAgent, type WaitingList } from "./waiting.ts";

/** A rotation and whom it waits for. */
export interface RotationState {
  readonly operation: Operation;
  readonly waiting: Waiting;
  /** Why the last step failed, which is tried again; empty otherwise. */
  readonly failure: string;
}

/** All that change something resolve when it is written down. Refusals are FAILED_PRECONDITION. */
export interface RotationRunner {
  start(request: RotationRequest): Promise<RotationState>;
  stop(): Promise<RotationState>;
  resume(): Promise<RotationState>;
  undo(): Promise<RotationState>;
  /** The rotation under way, or the last one. @throws SpireError NOT_FOUND when there was none. */
  state(): RotationState;
  /** The state now and after each change, always the newest, until the rotation ends or stops. */
  watch(signal: AbortSignal): AsyncGenerator<RotationState>;
  /** Whether a rotation of the kind is under way, so that nobody else is to move its authorities. */
  holds(kind: AuthorityKind): boolean;
  close(): Promise<void>;
}

export interface RunnerOptions {
  readonly store: RotationStore;
  readonly steps: RotationSteps;
  readonly waitingList: WaitingList;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Between looks when nothing tells that there is something to see, such as an SVID that expired. */
const lookMs = 1_000;
const shortestPauseMs = 20;
const idleMs = 3_600_000;
/** An agent that was not seen for so long isn't expected in an emergency. */
const contactSeconds = 60;
/** Looking may take this share of the time, so that it never gets in the way with very many agents. */
const lookShare = 0.05;

/** Takes up the rotation that was under way. */
export async function createRotationRunner(options: RunnerOptions): Promise<RotationRunner> {
  const { store, steps, waitingList, clock, log, metrics } = options;
  let operation = await load(store, log);
  let moved = new Set(operation ? await store.moved(operation.id) : []);
  let failure = "";
  const watchers = new Set<() => void>();
  const tell = () => {
    for (const wake of watchers) wake();
  };
  const now = () => unixSeconds(clock);

  let turn: Promise<void> = Promise.resolve();
  /** What an administrator asks for comes between two steps. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = turn.then(work);
    turn = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  async function put(next: Operation): Promise<void> {
    await store.put({ id: next.id, data: formatOperation(next) });
    const before = operation;
    operation = next;
    failure = "";
    if (before?.id !== next.id || before.stage !== next.stage) report(next, before?.stage);
    tell();
    task.nudge();
  }

  function report(next: Operation, before: Stage | undefined): void {
    log.info("Rotation of authorities", {
      rotation: next.id,
      stage: next.stage,
      kinds: next.kinds.join(","),
    });
    measure(next.stage, before);
    if (isFinished(next)) {
      metrics.counter(["rotation", "result"], 1, { result: next.stage });
      metrics.gauge(["rotation", "waiting_agents"], 0);
    }
  }

  /** One stage is 1, all others are 0. */
  function measure(stage: Stage, before: Stage | undefined): void {
    if (before && before !== stage) metrics.gauge(["rotation", "stage"], 0, { stage: before });
    metrics.gauge(["rotation", "stage"], 1, { stage });
  }

  function look(current: Operation, noteMoved: (agent: SpiffeId) => void = () => {}): Waiting {
    if (!isWaiting(current)) return nobody;
    const waiting =
      current.stage === "distributing"
        ? waitingList.lackingBundle(current)
        : waitingList.notMoved(current, moved, noteMoved);
    return current.emergency ? inEmergency(waiting, current, now()) : waiting;
  }

  /** Whether nobody is waited for any more. */
  async function waited(current: Operation): Promise<boolean> {
    const newlyMoved: SpiffeId[] = [];
    const started = clock.now();
    const { agents, others } = look(current, (agent) => newlyMoved.push(agent));
    lookTookMs = clock.now() - started;
    metrics.gauge(["rotation", "waiting_agents"], agents.length);
    if (newlyMoved.length > 0) {
      await store.addMoved(current.id, newlyMoved);
      moved = new Set([...moved, ...newlyMoved]);
    }
    tell();
    return agents.length + others.length === 0;
  }

  const take: Readonly<Record<Stage, (current: Operation) => Promise<Operation>>> = {
    async preparing(current) {
      return advance(current, now(), await steps.prepare(current.kinds));
    },
    distributing: wait,
    async activating(current) {
      const sequence = current.bundleSequence;
      const laggards = () => !current.emergency && waitingList.lackingBundle(current).agents.length > 0;
      const outcome = await steps.activate(current, laggards);
      if (outcome === "refused") return backToDistributing(current, sequence, now());
      return advance(current, now());
    },
    async tainting(current) {
      return advance(current, now(), await steps.taint(current));
    },
    moving: wait,
    async revoking(current) {
      await steps.revoke(current);
      return finish(current);
    },
    done: async (current) => current,
    async undoing(current) {
      await steps.undo(current);
      return finish(current);
    },
    undone: async (current) => current,
  };

  async function wait(current: Operation): Promise<Operation> {
    if (isWaiting(current) && !(await waited(current))) return current;
    const kept: Outcome = current.stage === "distributing" ? { bundleSequence: current.bundleSequence } : {};
    return advance(current, now(), kept);
  }

  async function finish(current: Operation): Promise<Operation> {
    await store.clearMoved();
    moved = new Set();
    return advance(current, now());
  }

  /** @returns whether there is more to do at once. */
  async function step(): Promise<boolean> {
    if (!operation || operation.stopped || isFinished(operation)) return false;
    const current = operation;
    try {
      const next = await take[current.stage](current);
      if (next !== current) await put(next);
      else failure = "";
      return next !== current && !isFinished(next);
    } catch (caught) {
      const error = SpireError.from(caught);
      // What is not so now will not be so by itself; anything else, such as a full disk, may pass.
      if (error.code !== "FAILED_PRECONDITION") {
        failure = error.message;
        tell();
        throw caught;
      }
      log.error("Rotation of authorities stopped", { rotation: current.id, stage: current.stage, error });
      const isUndoing = current.stage === "undoing";
      await put(isUndoing ? notUndone(current, error.message, now()) : stop(current, error.message));
      return false;
    }
  }

  const isIdle = () => !operation || operation.stopped || isFinished(operation);

  async function round(signal: AbortSignal): Promise<number> {
    while (!signal.aborted && (await inTurn(step)));
    const pauseMs = lookTookMs / lookShare;
    nextLook = clock.now() + Math.max(shortestPauseMs, pauseMs);
    return isIdle() ? idleMs : Math.max(lookMs, pauseMs);
  }

  let lookTookMs = 0;
  /** Many agents at once are looked at together. */
  let nextLook = 0;
  let isLookPlanned = false;
  function lookSoon(): void {
    if (isIdle() || isLookPlanned) return;
    isLookPlanned = true;
    clock.after(nextLook - clock.now(), () => {
      isLookPlanned = false;
      task.nudge();
    });
  }

  if (operation) measure(operation.stage, undefined);
  const task = startTask({
    name: "Rotation of authorities",
    clock,
    log,
    backoff: { initialMs: lookMs, maximumMs: 30_000 },
    run: round,
  });

  const stopListening = waitingList.onProgress(lookSoon);

  function underWay(): Operation {
    if (!operation) throw notFound("no rotation was started on this server");
    return operation;
  }

  function state(): RotationState {
    const current = underWay();
    return { operation: current, waiting: look(current), failure };
  }

  const change = (make: (current: Operation) => Operation): Promise<RotationState> =>
    inTurn(async () => {
      await put(make(underWay()));
      return state();
    });

  return {
    start: (request) =>
      inTurn(async () => {
        if (operation && !isFinished(operation)) {
          if (!request.emergency) throw underWayAlready(operation);
          await put(escalate(operation, request));
        } else {
          steps.requireReplaceable(request.kinds);
          moved = new Set();
          await put(begin(request, randomUUID(), now()));
        }
        return state();
      }),
    stop: () => change((current) => stop(current)),
    resume: () => change(resume),
    undo: () =>
      change((current) => {
        const undoing = undo(current, now());
        steps.requireUndoable(current);
        return undoing;
      }),
    state,
    async *watch(signal) {
      let wake = Promise.withResolvers<void>();
      const changed = () => wake.resolve();
      watchers.add(changed);
      signal.addEventListener("abort", changed, { once: true });
      try {
        let sent = "";
        while (!signal.aborted) {
          wake = Promise.withResolvers<void>();
          const newest = state();
          const text = JSON.stringify(newest);
          if (text !== sent) yield newest;
          sent = text;
          if (newest.operation.stopped || isFinished(newest.operation)) return;
          await wake.promise;
        }
      } finally {
        watchers.delete(changed);
        signal.removeEventListener("abort", changed);
      }
    },
    holds: (kind) => operation !== undefined && !isFinished(operation) && operation.kinds.includes(kind),
    async close() {
      stopListening();
      await task.stop();
      await turn;
      tell();
    },
  };
}

/** Only agents that called of late, and these for a moment. */
function inEmergency({ agents }: Waiting, operation: Operation, now: number): Waiting {
  const until = waitsUntil(operation);
  if (now >= until) return nobody;
  const isThere = ({ lastSeenAt }: WaitingAgent) => lastSeenAt >= operation.stageSince - contactSeconds;
  const there = agents.filter(isThere).map((agent) => ({ ...agent, until: Math.min(agent.until, until) }));
  return { agents: there, others: [] };
}

const underWayAlready = ({ stage, stopped }: Operation): SpireError =>
  new SpireError(
    "FAILED_PRECONDITION",
    `a rotation is under way (${stage}${stopped ? ", stopped" : ""}): ` +
      (stopped
        ? 'go on with "rotate resume", or back with "rotate undo"'
        : 'follow it with "rotate status -follow", or go back with "rotate undo"'),
  );

/** A record that can't be read is no reason not to start: what it was about shows in the bundle. */
async function load(store: RotationStore, log: Logger): Promise<Operation | undefined> {
  const record = await store.latest();
  if (!record) return undefined;
  try {
    return parseOperation(record.data);
  } catch (error) {
    log.error("The last rotation of authorities can't be read, and isn't gone on with", { error });
    return undefined;
  }
}
