/** Counts calls and the time they take, by method and status. */
import { type Metrics, nullMetrics, startCall } from "../core/metrics.ts";
import { callWords } from "./call-names.ts";
import type { ObserveCall } from "./calls.ts";

/** Undefined when nothing is collected, so that calls cost nothing more. */
export function createCallMetrics(metrics: Metrics): ObserveCall | undefined {
  if (metrics === nullMetrics) return undefined;
  const names = new Map<string, readonly string[]>();
  return ({ method }) => {
    let name = names.get(method);
    if (!name) {
      name = ["rpc", ...callWords(method)];
      names.set(method, name);
    }
    return startCall(metrics, name);
  };
}
