/** How an agent knows its server the first time: which of the ways is configured, and no two of them. */
import type { RawAgentFile } from "./agent-schema.ts";
import type { Origin } from "./origin.ts";

export type Bootstrap =
  | { readonly type: "file"; readonly path: string; readonly format: "pem" | "spiffe" }
  | { readonly type: "insecure" };

type Raw = NonNullable<RawAgentFile["agent"]>;

const ways = [
  "insecure_bootstrap",
  "trust_bundle_url",
  "trust_bundle_path",
  "trust_bundle_spiffe_workload_api",
] as const;

/**
 * Ways that aren't there yet pass as insecure: the program doesn't start with them.
 * @throws SpireError for none, for several, and for a URL that isn't secure.
 */
export function readBootstrap(agent: Raw, origin: Origin): Bootstrap {
  const chosen = ways.filter((way) => agent[way]);
  const [first, second] = chosen;
  if (first && second) {
    const message = `only one of ${first} or ${second} can be specified, not both`;
    throw origin.problem(message, `agent.${second}`);
  }
  if (!first) {
    const message =
      "trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured unless insecure_bootstrap is set";
    throw origin.problem(message, "agent");
  }
  const format = agent.trust_bundle_format || "pem";
  if (format !== "pem" && format !== "spiffe") {
    const message = 'invalid value for trust_bundle_format, expected "pem" or "spiffe"';
    throw origin.problem(message, "agent.trust_bundle_format");
  }
  checkUrl(agent, origin);
  const { trust_bundle_path: path } = agent;
  return path ? { type: "file", path, format } : { type: "insecure" };
}

function checkUrl({ trust_bundle_url: url, trust_bundle_unix_socket: socket }: Raw, origin: Origin): void {
  if (!url) return;
  const path = "agent.trust_bundle_url";
  if (socket) {
    if (!url.startsWith("http://")) {
      throw origin.problem(
        "trust bundle URL must start with http:// when used with trust bundle unix socket",
        path,
      );
    }
  } else if (!url.startsWith("https://")) {
    throw origin.problem("trust bundle URL must start with https://", path);
  }
}
