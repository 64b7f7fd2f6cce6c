/** `experimental.feature_flags`: the switches that SPIRE has for what its developers still work on. */
import { quote } from "../core/go-text.ts";
import type { Origin } from "./origin.ts";

/** SPIRE's, by name; the first is there for SPIRE's own tests and switches nothing. */
const known = ["i_am_a_test_flag", "wit-svid"];

export interface FeatureFlags {
  /** Whether WIT-SVIDs are issued. */
  readonly witSvids: boolean;
  /** SPIRE's warnings about what is switched on. */
  readonly warnings: readonly string[];
}

/** @throws SpireError INVALID_ARGUMENT with SPIRE's text for flags that SPIRE has not. */
export function readFeatureFlags(flags: readonly string[], path: string, origin: Origin): FeatureFlags {
  const unknown = flags.filter((flag) => !known.includes(flag)).sort();
  if (unknown.length > 0) {
    const message = `error loading feature flags: unknown feature flag(s): [${unknown.join(" ")}]`;
    throw origin.problem(message, path, 'the one flag that there is to set is "wit-svid"');
  }
  return {
    witSvids: flags.includes("wit-svid"),
    warnings: flags.map((flag) => `Developer feature flag ${quote(flag)} has been enabled`),
  };
}
