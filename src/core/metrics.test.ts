import { describe, expect, test } from "bun:test";
import { SpireError, type StatusName, statusCodes } from "./errors.ts";
import { type Metrics, measured, nullMetrics, startCall, statusName } from "./metrics.ts";

function recording() {
  const counters: unknown[] = [];
  const samples: unknown[] = [];
  const metrics: Metrics = {
    gauge() {},
    counter: (...given) => void counters.push(given),
    sample: (name, value, labels) => void samples.push([name, value >= 0, labels]),
  };
  return { metrics, counters, samples };
}

describe("a call", () => {
  test("is counted and timed when it ends, with its status and labels", () => {
    const { metrics, counters, samples } = recording();
    const end = startCall(metrics, ["a", "b"], { trust_domain_id: "x" });
    expect(counters).toEqual([]);
    end();
    expect(counters).toEqual([[["a", "b"], 1, { trust_domain_id: "x", status: "OK" }]]);
    expect(samples).toEqual([[["a", "b", "elapsed_time"], true, { trust_domain_id: "x", status: "OK" }]]);
  });

  test("that fails is counted by its code, and its error passed on", async () => {
    const { metrics, counters } = recording();
    const failure = new SpireError("NOT_FOUND", "none");
    const caught = await measured(metrics, ["a"], () => Promise.reject(failure)).catch((error) => error);
    expect(caught).toBe(failure);
    expect(counters).toEqual([[["a"], 1, { status: "NotFound" }]]);
  });

  test("costs nothing where nothing is collected", () => {
    expect(startCall(nullMetrics, ["a"])).toBe(startCall(nullMetrics, ["b"]));
  });
});

test("codes are spelled as Go's gRPC spells them", () => {
  const names = Object.keys(statusCodes).filter((name): name is StatusName => name !== "OK");
  expect(names.map((name) => statusName(new SpireError(name, "")))).toEqual([
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
  ]);
  expect(statusName(undefined)).toBe("OK");
  expect(statusName(new TypeError("x"))).toBe("Unknown");
});
