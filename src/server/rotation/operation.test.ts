import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "../../core/errors.ts";
import {
  advance,
  backToDistributing,
  begin,
  escalate,
  formatOperation,
  isFinished,
  isUndoable,
  isWaiting,
  notUndone,
  type Operation,
  parseOperation,
  type RotationRequest,
  resume,
  type Stage,
  stop,
  undo,
  waitsUntil,
} from "./operation.ts";

const request: RotationRequest = {
  kinds: ["x509", "jwt"],
  emergency: false,
  ignoreMinted: false,
  ignoreDownstream: false,
};
const replacements = [{ kind: "x509", next: "n", old: ["o", "older"], tainted: ["older"] }] as const;

const started = begin(request, "id", 100);

/** The operation in each stage on the way to its end. */
const path: Operation[] = [started];
for (let at: Operation = started; !isFinished(at); path.push(at)) at = advance(at, 200, { replacements });
const inStage = (stage: Stage): Operation => {
  const found = path.find((operation) => operation.stage === stage);
  if (!found) throw new Error(`${stage} is not on the path`);
  return found;
};

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "OK";
  } catch (error) {
    return SpireError.from(error).code;
  }
};

describe("a rotation", () => {
  test("goes through its stages in order", () => {
    expect(path.map(({ stage }) => stage)).toEqual([
      "preparing",
      "distributing",
      "activating",
      "tainting",
      "moving",
      "revoking",
      "done",
    ]);
    expect(codeOf(() => advance(inStage("done"), 300))).toBe("INTERNAL");
  });

  test("waits in two stages, in an emergency for a moment", () => {
    expect(path.filter(isWaiting).map(({ stage }) => stage)).toEqual(["distributing", "moving"]);
    const emergencies = path.map((operation) => escalate(operation, { ...request, emergency: true }));
    expect(emergencies.filter(isWaiting).map(waitsUntil)).toEqual(
      path.filter(isWaiting).map(({ stageSince }) => stageSince + 15),
    );
    expect(path.map(waitsUntil)).toEqual(path.map(() => Number.POSITIVE_INFINITY));
  });

  test("can be undone until it revokes", () => {
    const undoable = path.filter((operation) => codeOf(() => undo(operation, 300)) === "OK");
    expect(undoable.map(({ stage }) => stage)).toEqual([
      "preparing",
      "distributing",
      "activating",
      "tainting",
      "moving",
    ]);
    expect(path.filter(isUndoable)).toEqual(undoable);
    const undone = advance(undo(inStage("moving"), 300), 400);
    expect([undone.stage, undone.replacements, isFinished(undone)]).toEqual([
      "undone",
      [...replacements],
      true,
    ]);
  });

  test("is not undone twice, and can be gone on with when it can't be undone after all", () => {
    const undoing = undo(stop(inStage("moving")), 300);
    expect(undoing).toMatchObject({ stage: "undoing", stopped: false, stageSince: 300 });
    expect(codeOf(() => undo(undoing, 301))).toBe("FAILED_PRECONDITION");
    expect(codeOf(() => escalate(undoing, request))).toBe("FAILED_PRECONDITION");
    expect(notUndone(undoing, "gone", 302)).toMatchObject({
      stage: "activating",
      stopped: true,
      problem: "gone",
    });
    expect(notUndone(undo(started, 300), "gone", 302).stage).toBe("preparing");
  });

  test("stops and is resumed where it is, as long as it isn't over", () => {
    for (const operation of path.filter((operation) => !isFinished(operation))) {
      const stopped = stop(operation, "why");
      expect(stopped).toEqual({ ...operation, stopped: true, problem: "why" });
      expect(resume(stopped)).toEqual({ ...operation, problem: "" });
      expect([codeOf(() => stop(stopped)), codeOf(() => resume(operation))]).toEqual([
        "FAILED_PRECONDITION",
        "FAILED_PRECONDITION",
      ]);
    }
    const done = inStage("done");
    expect(
      [stop, resume, (it: Operation) => undo(it, 1)].map((change) => codeOf(() => change(done))),
    ).toEqual(new Array(3).fill("FAILED_PRECONDITION"));
  });

  test("becomes an emergency for the kinds that it has", () => {
    expect(
      escalate(stop(inStage("moving"), "why"), { ...request, kinds: ["jwt"], emergency: true }),
    ).toMatchObject({
      kinds: ["x509", "jwt"],
      emergency: true,
      stopped: false,
      problem: "",
    });
    expect(codeOf(() => escalate(inStage("moving"), { ...request, kinds: ["wit"] }))).toBe(
      "FAILED_PRECONDITION",
    );
  });

  test("goes back to waiting for the bundle when an agent lacks it at the last moment", () => {
    expect(backToDistributing(inStage("activating"), 7, 300)).toMatchObject({
      stage: "distributing",
      bundleSequence: 7,
      stageSince: 300,
    });
  });
});

describe("the record of a rotation", () => {
  test("is read as it was written", () => {
    for (const operation of [...path, stop(inStage("moving"), "why"), undo(started, 3)]) {
      expect(parseOperation(formatOperation(operation))).toEqual(operation);
    }
  });

  test("that is anything else is refused", () => {
    const fields = Object.keys(started) as (keyof Operation)[];
    const needed = fields.filter((field) => typeof started[field] !== "boolean");
    for (const field of needed) {
      const without = { ...inStage("moving"), [field]: undefined };
      expect(codeOf(() => parseOperation(JSON.stringify(without)))).toBe("DATA_LOSS");
    }
    const wrong = { ...inStage("moving"), replacements: [{ ...replacements[0], old: [1] }] };
    expect(codeOf(() => parseOperation(JSON.stringify(wrong)))).toBe("DATA_LOSS");
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(codeOf(() => parseOperation(text))).toBe("DATA_LOSS");
      }),
    );
  });
});
