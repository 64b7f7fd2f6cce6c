/** What all parts of a server are made with. */
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { Metrics } from "../../core/metrics.ts";
import type { Cleanup } from "../cleanup.ts";
import type { ServerSettings } from "./settings.ts";

export interface ServerContext {
  readonly settings: ServerSettings;
  readonly clock: Clock;
  readonly log: Logger;
  /** A log whose lines name the part of the server, by SPIRE's names. */
  logOf(subsystem: string): Logger;
  readonly metrics: Metrics;
  /** Whatever is opened is added to it. */
  readonly cleanup: Cleanup;
}
