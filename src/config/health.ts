/** `health_checks` of either program: where health is served over HTTP. */
import type { z } from "zod";
import type { Origin } from "./origin.ts";
import type { healthChecks } from "./shared-schema.ts";

/** Where a program says whether it is alive and ready. */
export interface HealthConfig {
  /** IP address or host name to listen on. */
  readonly host: string;
  /** 0 = a free one. */
  readonly port: number;
  readonly livePath: string;
  readonly readyPath: string;
}

/** @returns undefined unless it is switched on. @throws SpireError for a port or path that is none. */
export function readHealth(raw: z.infer<typeof healthChecks>, { problem }: Origin): HealthConfig | undefined {
  if (!raw?.listener_enabled) return undefined;
  const port = raw.bind_port || "80";
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw problem(`bind_port must be a port number, not ${JSON.stringify(port)}`, "health_checks.bind_port");
  }
  const pathOf = (option: "live_path" | "ready_path", otherwise: string): string => {
    const path = raw[option] || otherwise;
    if (path.startsWith("/")) return path;
    throw problem(`${option} must begin with a slash`, `health_checks.${option}`, `write "/${path}"`);
  };
  const livePath = pathOf("live_path", "/live");
  const readyPath = pathOf("ready_path", "/ready");
  if (livePath === readyPath) {
    throw problem("live_path and ready_path must differ", "health_checks.ready_path", "choose another one");
  }
  const host = (raw.bind_address || "localhost").replace(/^\[(.*)\]$/, "$1");
  return { host, port: Number(port), livePath, readyPath };
}
