/** `spire server agent …`: list, show, count, ban, evict and purge the agents that a server knows. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import { AgentService } from "../rpc/gen/spire/api/server/agent/v1/agent.ts";
import type { Agent } from "../rpc/gen/spire/api/types/agent.ts";
import { type Command, command, type Invocation, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { formatIdMessage, spiffeIdMessage, splitSelector } from "./entry-data.ts";
import { parseFilterTime } from "./filter-time.ts";
import { boolFlag, durationFlag, listFlag, optionalBoolFlag, stringFlag } from "./flags.ts";
import { formatGoTime, quote } from "./go-text.ts";
import { matchNames, parseMatch, selectorMatches } from "./matching.ts";
import { counted, formatJson, print, reply } from "./print.ts";

const filterFlags = {
  ...serverFlags,
  attestationType: stringFlag("Filter by attestation type, like join_token or x509pop"),
  banned: optionalBoolFlag("Filter by banned agents: true or false"),
  canReattest: optionalBoolFlag("Filter by agents that can re-attest: true or false"),
  expiresBefore: stringFlag('Filter by expiration time (format: "2006-01-02 15:04:05 -0700 -07")'),
  selector: listFlag("A colon-delimited type:value selector. Can be used more than once"),
  matchSelectorsOn: stringFlag("How selectors match: exact, any, superset or subset", "superset", matchNames),
};

export const agentList = command({
  name: "agent list",
  summary: "Lists attested agents and their SPIFFE IDs",
  example: "agent list -attestationType join_token -banned false",
  flags: filterFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const filter = agentFilter(flags);
    return withServer(invocation, async (channel) => {
      const agents = await listAgents(channel, filter);
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.listAgents, { agents, nextPageToken: "" })],
        pretty: () => printAgents(agents, terminal),
      });
    });
  },
});

export const agentCount = command({
  name: "agent count",
  summary: "Counts attested agents",
  example: "agent count -canReattest true",
  flags: filterFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const filter = agentFilter(flags);
    return withServer(invocation, async (channel) => {
      const response = await channel.client(AgentService).countAgents({ filter });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.countAgents, response)],
        pretty: () => terminal.out(`${counted(response.count, "attested agent", "attested agents")}\n`),
      });
    });
  },
});

const idFlags = {
  ...serverFlags,
  spiffeID: stringFlag("The SPIFFE ID of the agent (agent identity)"),
};

export const agentShow = command({
  name: "agent show",
  summary: "Shows the details of an attested agent given its SPIFFE ID",
  example: "agent show -spiffeID spiffe://example.org/spire/agent/join_token/a1b2",
  flags: idFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const id = requiredId(flags.spiffeID);
    return withServer(invocation, async (channel) => {
      const agent = await channel.client(AgentService).getAgent({ id, outputMask: undefined });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.getAgent, agent)],
        pretty: () => {
          terminal.out(`Found an attested agent given its SPIFFE ID\n\n${formatAgent(agent)}`);
          for (const { type, value } of agent.selectors)
            terminal.out(`Selectors         : ${type}:${value}\n`);
        },
      });
    });
  },
});

export const agentBan: Command = command({
  name: "agent ban",
  summary: "Bans an agent: it can neither renew nor attest again until it is evicted",
  example: "agent ban -spiffeID spiffe://example.org/spire/agent/join_token/a1b2",
  flags: idFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const id = requiredId(flags.spiffeID);
    return withServer(invocation, async (channel) => {
      const response = await channel.client(AgentService).banAgent({ id });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.banAgent, response)],
        pretty: () => terminal.out("Agent banned successfully\n"),
      });
    });
  },
});

export const agentEvict: Command = command({
  name: "agent evict",
  summary: "Evicts an attested agent: it has to attest again",
  example: "agent evict -spiffeID spiffe://example.org/spire/agent/join_token/a1b2",
  flags: idFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    const id = requiredId(flags.spiffeID);
    return withServer(invocation, async (channel) => {
      const response = await channel.client(AgentService).deleteAgent({ id });
      return print({
        output: flags.output,
        terminal,
        replies: [reply(AgentService.deleteAgent, response)],
        pretty: () => terminal.out("Agent evicted successfully\n"),
      });
    });
  },
});

export const agentPurge = command({
  name: "agent purge",
  summary: "Evicts agents that can re-attest and whose SVID expired some time ago",
  example: "agent purge -expiredFor 720h -dryRun",
  flags: {
    ...serverFlags,
    expiredFor: durationFlag("How long ago the SVID of an agent must have expired", 720 * 3_600_000),
    dryRun: boolFlag("Prints what would be purged and purges nothing"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      const before = Math.floor((Date.now() - flags.expiredFor) / 1000);
      const known = await listAgents(channel, { ...emptyFilter, byCanReattest: true }).catch(
        (error: unknown) => {
          throw SpireError.from(error).within("failed to list agents");
        },
      );
      const expired = known.filter((agent) => agent.x509svidExpiresAt < before);
      const purged = flags.dryRun ? expired.map(kept) : await purge(channel, expired);
      if (flags.output === "json") terminal.out(`${formatJson({ expired_agents: purged })}\n`);
      else printPurged(purged, flags.dryRun, terminal);
      return 0;
    });
  },
});

type Filter = Parameters<typeof AgentService.countAgents.requestSerialize>[0]["filter"] & {};

const emptyFilter: Filter = {
  byAttestationType: "",
  bySelectorMatch: undefined,
  byBanned: undefined,
  byCanReattest: undefined,
  byExpiresBefore: "",
};

function agentFilter(flags: Invocation<typeof filterFlags>["flags"]): Filter {
  return {
    byAttestationType: flags.attestationType,
    bySelectorMatch:
      flags.selector.length === 0
        ? undefined
        : {
            selectors: flags.selector.map(parseOneSelector),
            match: parseAgentMatch(flags.matchSelectorsOn),
          },
    byBanned: flags.banned,
    byCanReattest: flags.canReattest,
    byExpiresBefore: flags.expiresBefore === "" ? "" : parseFilterTime(flags.expiresBefore),
  };
}

function parseOneSelector(text: string) {
  try {
    return splitSelector(text);
  } catch (error) {
    throw SpireError.from(error).within(`error parsing selector ${quote(text)}`);
  }
}

function parseAgentMatch(text: string) {
  try {
    return parseMatch(text, selectorMatches);
  } catch {
    throw invalidArgument("unsupported match behavior");
  }
}

function requiredId(text: string) {
  if (text === "") throw invalidArgument("a SPIFFE ID is required");
  return spiffeIdMessage(text);
}

async function listAgents(channel: Channel, filter: Filter): Promise<Agent[]> {
  const client = channel.client(AgentService);
  const agents: Agent[] = [];
  let pageToken = "";
  do {
    const page = await client.listAgents({ filter, outputMask: undefined, pageSize: 1000, pageToken });
    agents.push(...page.agents);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return agents;
}

function printAgents(agents: readonly Agent[], terminal: Terminal): void {
  if (agents.length === 0) {
    terminal.out("No attested agents found\n");
    return;
  }
  terminal.out(`Found ${counted(agents.length, "attested agent", "attested agents")}:\n\n`);
  for (const agent of agents) terminal.out(formatAgent(agent));
}

/** The block that SPIRE prints for an agent, with the empty line that ends it. */
function formatAgent(agent: Agent): string {
  const lines: [string, string][] = [
    ["SPIFFE ID", formatIdMessage(agent.id)],
    ["Attestation type", agent.attestationType],
    ["Expiration time", formatGoTime(agent.x509svidExpiresAt)],
    agent.banned ? ["Banned", "true"] : ["Serial number", agent.x509svidSerialNumber],
    ["Can re-attest", String(agent.canReattest)],
  ];
  if (agent.agentVersion !== "") lines.push(["Agent version", agent.agentVersion]);
  return `${lines.map(([label, value]) => `${label.padEnd(18)}: ${value}\n`).join("")}\n`;
}

interface Purged {
  readonly agent_id: string;
  readonly deleted: boolean;
  readonly error?: string;
}

const kept = (agent: Agent): Purged => ({ agent_id: formatIdMessage(agent.id), deleted: false });

async function purge(channel: Channel, agents: readonly Agent[]): Promise<Purged[]> {
  const client = channel.client(AgentService);
  const purged: Purged[] = [];
  for (const agent of agents) {
    const agentId = formatIdMessage(agent.id);
    try {
      await client.deleteAgent({ id: agent.id });
      purged.push({ agent_id: agentId, deleted: true });
    } catch (error) {
      purged.push({ agent_id: agentId, deleted: false, error: SpireError.from(error).message });
    }
  }
  return purged;
}

function printPurged(purged: readonly Purged[], dryRun: boolean, terminal: Terminal): void {
  if (purged.length === 0) {
    terminal.out("No agents to purge.\n");
    return;
  }
  terminal.out(`Found ${counted(purged.length, "expired agent", "expired agents")}\n\n`);
  const lines = (agents: readonly Purged[]) =>
    agents.map(({ agent_id }) => `SPIFFE ID         : ${agent_id}\n`).join("");
  if (dryRun) {
    terminal.out(`\nAgents that can be purged:\n${lines(purged)}`);
    return;
  }
  const [deleted, failed] = [purged.filter((item) => item.deleted), purged.filter((item) => !item.deleted)];
  if (deleted.length > 0) terminal.out(`Agents purged:\n${lines(deleted)}`);
  if (failed.length === 0) return;
  terminal.out("\nAgents not purged:\n");
  for (const { agent_id, error } of failed) {
    terminal.out(`SPIFFE ID         : ${agent_id}\nError             : ${error}\n`);
  }
}
