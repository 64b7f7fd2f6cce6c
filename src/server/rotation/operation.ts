/** The replacement of authorities as one operation: its stages, and which may follow which. No input or output. */
import { SpireError } from "../../core/errors.ts";
import { type AuthorityKind, authorityKinds } from "../journal.ts";

/**
 * `preparing`: the new authorities are made and published. `distributing`: until every agent has that bundle.
 * `activating`: the new ones begin to sign. `tainting`: the old ones are marked in the bundle, so that agents replace
 * what they signed. `moving`: until nothing of them is in use. `revoking`: they leave the bundle; from here on there
 * is no way back. `undoing`: back to the old ones.
 */
export type Stage =
  | "preparing"
  | "distributing"
  | "activating"
  | "tainting"
  | "moving"
  | "revoking"
  | "done"
  | "undoing"
  | "undone";

export interface RotationRequest {
  /** Each once. */
  readonly kinds: readonly AuthorityKind[];
  /** Waits for nobody but, for a moment, agents that are there. */
  readonly emergency: boolean;
  readonly ignoreMinted: boolean;
  readonly ignoreDownstream: boolean;
}

/** What takes the place of what. */
export interface Replacement {
  readonly kind: AuthorityKind;
  /** Authority ID. */
  readonly next: string;
  /** Authority IDs: the one that was in force, then earlier ones of this server that the bundle still had. */
  readonly old: readonly string[];
  /** Those of the old ones that were tainted before. */
  readonly tainted: readonly string[];
}

export interface Operation extends RotationRequest {
  readonly id: string;
  readonly stage: Stage;
  /** Whether it stays where it is until it is resumed or undone. */
  readonly stopped: boolean;
  /** Why it stopped by itself; empty otherwise. */
  readonly problem: string;
  /** Unix seconds. */
  readonly startedAt: number;
  /** Unix seconds. */
  readonly stageSince: number;
  /** Of the bundle that agents have to have in the stages that wait; 0 in the others. */
  readonly bundleSequence: number;
  /** Empty until they are made. */
  readonly replacements: readonly Replacement[];
}

/** The stage after each, unless it is undone. */
const following: Readonly<Record<Stage, Stage | undefined>> = {
  preparing: "distributing",
  distributing: "activating",
  activating: "tainting",
  tainting: "moving",
  moving: "revoking",
  revoking: "done",
  done: undefined,
  undoing: "undone",
  undone: undefined,
};

const undoable: ReadonlySet<Stage> = new Set([
  "preparing",
  "distributing",
  "activating",
  "tainting",
  "moving",
]);

export const isFinished = ({ stage }: Operation): boolean => following[stage] === undefined;

export const isUndoable = ({ stage }: Operation): boolean => undoable.has(stage);

/** Whether the stage lasts until others have done something. */
export const isWaiting = ({ stage }: Operation): boolean => stage === "distributing" || stage === "moving";

/**
 * How long an emergency waits in each stage: for two syncs of an agent, and its new SVIDs. An agent that has to connect
 * anew before it has the new authorities can never do so again; and of an authority that is just gone, without a taint,
 * agents notice nothing, and keep what it signed.
 */
const emergencyGraceSeconds = 15;

/** Unix seconds after which the operation waits for nobody in its stage. */
export const waitsUntil = ({ emergency, stageSince }: Operation): number =>
  emergency ? stageSince + emergencyGraceSeconds : Number.POSITIVE_INFINITY;

export function begin(request: RotationRequest, id: string, now: number): Operation {
  return {
    ...request,
    id,
    stage: "preparing",
    stopped: false,
    problem: "",
    startedAt: now,
    stageSince: now,
    bundleSequence: 0,
    replacements: [],
  };
}

/** What a stage found out for the ones after it. */
export type Outcome = Partial<Pick<Operation, "replacements" | "bundleSequence">>;

/** The stage is over. @throws SpireError INTERNAL for a finished operation. */
export function advance(operation: Operation, now: number, outcome: Outcome = {}): Operation {
  const stage = following[operation.stage];
  if (!stage) throw new SpireError("INTERNAL", `a rotation that is ${operation.stage} has no next stage`);
  return { ...operation, bundleSequence: 0, ...outcome, stage, stageSince: now, problem: "" };
}

/** Waits once more for agents to have the bundle: there are some that lack it. */
export const backToDistributing = (operation: Operation, bundleSequence: number, now: number): Operation => ({
  ...operation,
  stage: "distributing",
  stageSince: now,
  bundleSequence,
});

/** @throws SpireError FAILED_PRECONDITION when it is over, or stopped already. */
export function stop(operation: Operation, problem = ""): Operation {
  requireUnfinished(operation);
  if (operation.stopped) throw failed("the rotation is stopped already");
  return { ...operation, stopped: true, problem };
}

/** It can't be undone after all: stops where it can be gone on with. */
export const notUndone = (operation: Operation, problem: string, now: number): Operation => ({
  ...stop(operation, problem),
  stage: operation.replacements.length > 0 ? "activating" : "preparing",
  stageSince: now,
});

/** @throws SpireError FAILED_PRECONDITION when it is over, or not stopped. */
export function resume(operation: Operation): Operation {
  requireUnfinished(operation);
  if (!operation.stopped) throw failed("the rotation is not stopped");
  return { ...operation, stopped: false, problem: "" };
}

/** @throws SpireError FAILED_PRECONDITION when it is over, or the old authorities are being revoked. */
export function undo(operation: Operation, now: number): Operation {
  requireUnfinished(operation);
  if (operation.stage === "undoing") throw failed("the rotation is being undone already");
  if (!isUndoable(operation)) {
    throw failed("the old authorities are being revoked, which cannot be undone; resume the rotation");
  }
  return { ...operation, stage: "undoing", stopped: false, problem: "", stageSince: now, bundleSequence: 0 };
}

/**
 * The operation under way waits no longer.
 * @throws SpireError FAILED_PRECONDITION when it is being undone, or leaves out a kind that is asked for.
 */
export function escalate(operation: Operation, request: RotationRequest): Operation {
  if (operation.stage === "undoing") throw failed("the last rotation is still being undone; try again");
  const missing = request.kinds.filter((kind) => !operation.kinds.includes(kind));
  if (missing.length > 0) {
    throw failed(
      `the rotation under way is of kind ${operation.kinds.join(", ")}: ` +
        `finish it with "rotate -emergency -kind ${operation.kinds.join(" -kind ")}", then rotate ${missing.join(", ")}`,
    );
  }
  return { ...operation, emergency: true, stopped: false, problem: "" };
}

function requireUnfinished(operation: Operation): void {
  if (isFinished(operation)) throw failed(`no rotation is under way; the last one is ${operation.stage}`);
}

const failed = (message: string): SpireError => new SpireError("FAILED_PRECONDITION", message);

export const formatOperation = (operation: Operation): string => JSON.stringify(operation);

/** @throws SpireError DATA_LOSS for what `formatOperation` doesn't write. */
export function parseOperation(text: string): Operation {
  const damaged = () => new SpireError("DATA_LOSS", "the stored rotation can't be read");
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    throw damaged();
  }
  if (!isObject(stored)) throw damaged();
  const { id, stage, kinds, replacements, startedAt, stageSince, bundleSequence, problem } = stored;
  if (!isStage(stage) || !isKinds(kinds) || !Array.isArray(replacements)) throw damaged();
  if (typeof id !== "string" || typeof problem !== "string") throw damaged();
  if (typeof startedAt !== "number" || typeof stageSince !== "number") throw damaged();
  if (typeof bundleSequence !== "number" || !replacements.every(isReplacement)) throw damaged();
  return {
    id,
    stage,
    kinds,
    replacements,
    startedAt,
    stageSince,
    bundleSequence,
    problem,
    stopped: stored["stopped"] === true,
    emergency: stored["emergency"] === true,
    ignoreMinted: stored["ignoreMinted"] === true,
    ignoreDownstream: stored["ignoreDownstream"] === true,
  };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

const isStage = (value: unknown): value is Stage =>
  typeof value === "string" && Object.hasOwn(following, value);

const isKind = (value: unknown): value is AuthorityKind => authorityKinds.some((kind) => kind === value);

const isKinds = (value: unknown): value is readonly AuthorityKind[] =>
  Array.isArray(value) && value.every(isKind);

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");

const isReplacement = (value: unknown): value is Replacement =>
  isObject(value) &&
  isKind(value["kind"]) &&
  typeof value["next"] === "string" &&
  isTexts(value["old"]) &&
  isTexts(value["tainted"]);
