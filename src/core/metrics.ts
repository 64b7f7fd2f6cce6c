/** What a program counts and measures: the door to whatever collects it. */
import { SpireError, type StatusName } from "./errors.ts";

/** Label names and values. */
export type MetricLabels = Readonly<Record<string, string>>;

/** Names are lists of words, as SPIRE's are; a collector joins them in its own way. */
export interface Metrics {
  /** Sets a value that goes up and down. */
  gauge(name: readonly string[], value: number, labels?: MetricLabels): void;
  /** Adds to a count that only grows. */
  counter(name: readonly string[], by: number, labels?: MetricLabels): void;
  /** One measurement of many, such as how long a call took (milliseconds). */
  sample(name: readonly string[], value: number, labels?: MetricLabels): void;
}

/** Collects nothing. */
export const nullMetrics: Metrics = { gauge() {}, counter() {}, sample() {} };

/** Ends a measurement; an error is counted by its code, nothing as `OK`. */
export type EndCall = (failure?: unknown) => void;

const ignoreEnd: EndCall = () => {};

/**
 * Begins what SPIRE calls a call: at its end it is counted under `name`, and its time taken in milliseconds under
 * `name` and `elapsed_time`, both with the label `status`.
 */
export function startCall(metrics: Metrics, name: readonly string[], labels?: MetricLabels): EndCall {
  if (metrics === nullMetrics) return ignoreEnd;
  const started = performance.now();
  return (failure) => {
    const all = { ...labels, status: statusName(failure) };
    metrics.counter(name, 1, all);
    metrics.sample([...name, "elapsed_time"], performance.now() - started, all);
  };
}

/** Does the work as a call, see `startCall`. */
export async function measured<T>(
  metrics: Metrics,
  name: readonly string[],
  work: () => Promise<T>,
  labels?: MetricLabels,
): Promise<T> {
  const end = startCall(metrics, name, labels);
  try {
    const result = await work();
    end();
    return result;
  } catch (error) {
    end(error);
    throw error;
  }
}

/** `OK` for no failure; otherwise the code as Go's gRPC spells it, such as `InvalidArgument`. */
export function statusName(failure: unknown): string {
  if (failure === undefined) return "OK";
  return failure instanceof SpireError ? codeName(failure.code) : "Unknown";
}

const codeName = (code: StatusName): string =>
  code === "CANCELLED"
    ? "Canceled"
    : code.replace(/([A-Z])([A-Z]*)_?/g, (_, first: string, rest: string) => first + rest.toLowerCase());
