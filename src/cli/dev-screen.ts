/** What `spire dev` says when it is ready: a screen for people, a line of JSON for programs. */
import type { Entry } from "../core/entry.ts";
import { formatSelector } from "../core/selector.ts";
import type { SpiffeId, TrustDomain } from "../core/spiffe-id.ts";
import { exportLine, quoteIfNeeded, type ShellSyntax } from "./shell.ts";

/** A development instance that is ready. */
export interface DevReport {
  readonly version: string;
  readonly name: string;
  readonly pid: number;
  readonly trustDomain: TrustDomain;
  readonly workloadApiSocket: string;
  readonly serverSocket: string;
  /** `host:port`. */
  readonly serverAddress: string;
  readonly agentId: SpiffeId;
  readonly bundlePath: string;
  /** Lowercase hex. */
  readonly caSha256: string;
  readonly entries: readonly Entry[];
  readonly env: Readonly<Record<string, string>>;
  /** Milliseconds since the process started. */
  readonly startupMs: number;
}

/** One line with the members that scripts rely on. */
export function formatReportJson(report: DevReport): string {
  const document = {
    version: report.version,
    pid: report.pid,
    trust_domain: report.trustDomain,
    workload_api_socket: report.workloadApiSocket,
    server_socket: report.serverSocket,
    server_address: report.serverAddress,
    agent_id: report.agentId,
    bundle_path: report.bundlePath,
    ca_sha256: report.caSha256,
    entries: report.entries.map((entry) => ({
      id: entry.id,
      spiffe_id: entry.spiffeId,
      parent_id: entry.parentId,
      selectors: entry.selectors.map(formatSelector),
    })),
    env: report.env,
    startup_ms: report.startupMs,
  };
  return `${JSON.stringify(document)}\n`;
}

/** More would push the screen past 20 lines. */
const mostIdentities = 6;
const labelWidth = 14;

/** Under 20 lines; the last begins with READY. `self` is how the user called this program. */
export function formatScreen(report: DevReport, syntax: ShellSyntax, self: readonly string[]): string {
  const row = (label: string, value: string) => `  ${label.padEnd(labelWidth)} ${value}`;
  const next = [...self, "agent", "api", "fetch", "x509", "-socketPath", report.workloadApiSocket];
  return [
    `spire ${report.version} dev (${report.name}): for development, not for production`,
    "",
    row("Trust domain", report.trustDomain),
    row("Workload API", report.workloadApiSocket),
    row("Server", `${report.serverSocket}, ${report.serverAddress}`),
    row("CA SHA-256", report.caSha256),
    ...identities(report.entries).map((text, index) => row(index === 0 ? "Identities" : "", text)),
    "",
    row(
      "Environment",
      exportLine(syntax, "SPIFFE_ENDPOINT_SOCKET", report.env["SPIFFE_ENDPOINT_SOCKET"] ?? ""),
    ),
    row("Next", next.map((word) => quoteIfNeeded(syntax, word)).join(" ")),
    "",
    `READY in ${report.startupMs} ms`,
    "",
  ].join("\n");
}

function identities(entries: readonly Entry[]): string[] {
  if (entries.length === 0) return ["none"];
  const shown = entries.length > mostIdentities ? entries.slice(0, mostIdentities - 1) : entries;
  const lines = shown.map(
    ({ spiffeId, selectors }) => `${spiffeId} by ${selectors.map(formatSelector).join(", ")}`,
  );
  const more = entries.length - shown.length;
  return more > 0 ? [...lines, `and ${more} more`] : lines;
}
