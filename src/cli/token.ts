/** `spire server token generate`: makes a join token. */
import { AgentService } from "../rpc/gen/spire/api/server/agent/v1/agent.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { spiffeIdMessage } from "./entry-data.ts";
import { intFlag, stringFlag } from "./flags.ts";
import { requireInt32 } from "./mint.ts";
import { print, reply } from "./print.ts";

export const tokenGenerate = command({
  name: "generate",
  summary: "Generates a join token, with which one agent may attest once",
  example: "token generate -spiffeID spiffe://example.org/node -ttl 600",
  flags: {
    ...serverFlags,
    ttl: intFlag("Token TTL in seconds", 600),
    spiffeID: stringFlag("Additional SPIFFE ID to assign the token owner (optional)"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    requireInt32(flags.ttl, "TTL", `int(${flags.ttl})`);
    const agentId = flags.spiffeID === "" ? undefined : spiffeIdMessage(flags.spiffeID);
    return withServer(invocation, async (channel) => {
      const token = await channel
        .client(AgentService)
        .createJoinToken({ ttl: flags.ttl, token: "", agentId });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.createJoinToken, token)],
        pretty: () => {
          terminal.out(`Token: ${token.value}\n`);
          if (!agentId) terminal.out("Warning: Missing SPIFFE ID.\n");
        },
      });
    });
  },
});
