/** `healthcheck` of server and agent: whether it answers its health service with SERVING. */
import { SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import { HealthCheckResponse_ServingStatus, HealthService } from "../rpc/gen/grpc/health/v1/health.ts";
import { command, type Terminal } from "./command.ts";
import { agentSocketFlags, serverSocketFlags, withAgent, withServer } from "./connection.ts";
import { boolFlag } from "./flags.ts";

const healthFlags = {
  shallow: boolFlag("Perform a less stringent health check"),
  verbose: boolFlag("Print verbose information"),
};

export const serverHealthcheck = command({
  name: "healthcheck",
  summary: "Determines whether the server is healthy",
  example: "healthcheck -verbose",
  flags: { ...serverSocketFlags, ...healthFlags },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.verbose) terminal.out("Checking server health...\n");
    await withServer(invocation, (channel) => check(channel, "server", flags.verbose, terminal));
    terminal.out("Server is healthy.\n");
    return 0;
  },
});

export const agentHealthcheck = command({
  name: "health",
  summary: "Determines whether the agent is healthy",
  example: "healthcheck -verbose",
  flags: { ...agentSocketFlags, ...healthFlags },
  errorPrefix: "",
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.verbose) terminal.out("Checking agent health...\n");
    await withAgent(invocation, (channel) => check(channel, "Agent", flags.verbose, terminal));
    terminal.out("Agent is healthy.\n");
    return 0;
  },
});

/** @throws SpireError UNAVAILABLE. */
async function check(channel: Channel, who: string, verbose: boolean, terminal: Terminal): Promise<void> {
  let status: number;
  try {
    ({ status } = await channel.client(HealthService).check({ service: "" }, { timeoutMs: 10_000 }));
  } catch (error) {
    if (verbose) terminal.err(`Failed to check health: ${SpireError.from(error).message}\n`);
    throw new SpireError("UNAVAILABLE", `${who} is unhealthy: unable to determine health`);
  }
  if (status === HealthCheckResponse_ServingStatus.SERVING) return;
  const name = Object.entries(HealthCheckResponse_ServingStatus).find(([, value]) => value === status)?.[0];
  throw new SpireError("UNAVAILABLE", `${who} is unhealthy: it returned status "${name ?? status}"`);
}
