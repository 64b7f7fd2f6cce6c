/** `spire server agent activity`: when each agent was last seen, its version, and the bundle that it has. */
import { type Activity, AgentActivityService } from "../rpc/gen/spire/server/activity/v1/activity.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { formatRfc3339 } from "./go-text.ts";
import { counted, print, type Reply, reply } from "./print.ts";

/** Agents asked for in one go. */
const pageSize = 5_000;

export const agentActivity = command({
  name: "agent activity",
  summary:
    "Lists agents with their versions, when each was last seen, and whether it has the present trust bundle",
  example: "agent activity",
  flags: serverFlags,
  run: async (invocation) =>
    withServer(invocation, async (channel) => {
      const { flags, terminal } = invocation;
      const api = channel.client(AgentActivityService);
      const replies: Reply[] = [];
      const agents: Activity[] = [];
      let current = 0;
      let pageToken = "";
      do {
        const page = await api.listAgentActivity({ pageSize, pageToken });
        replies.push(reply(AgentActivityService.listAgentActivity, page));
        agents.push(...page.agents);
        current = page.currentBundleSequence;
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      return print({
        output: flags.output,
        terminal,
        replies,
        pretty: () => {
          terminal.out(`Found ${counted(agents.length, "attested agent", "attested agents")}\n`);
          for (const agent of agents) terminal.out(`\n${formatActivity(agent, current)}`);
        },
      });
    }),
});

function formatActivity(agent: Activity, current: number): string {
  const { id, version, lastSeenAt, bundleSequence, banned, expiresAt } = agent;
  const isCurrent = bundleSequence >= current;
  const bundle =
    bundleSequence === 0 ? "not known" : `${bundleSequence}${isCurrent ? "" : `, behind ${current}`}`;
  const fields: [string, string][] = [
    ["SPIFFE ID", id],
    ["Version", version === "" ? "not known" : version],
    ["Last seen", lastSeenAt === 0 ? "never" : formatRfc3339(lastSeenAt)],
    ["Bundle sequence", bundle],
    ["SVID expires", formatRfc3339(expiresAt)],
    ...(banned ? ([["Banned", "true"]] satisfies [string, string][]) : []),
  ];
  return fields.map(([label, value]) => `${label.padEnd(18)}: ${value}\n`).join("");
}
