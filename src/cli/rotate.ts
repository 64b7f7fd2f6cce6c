/** `spire server rotate …`: replaces the server's own authorities as one operation, and follows it. */
import { SpireError } from "../core/errors.ts";
import {
  RotationService,
  type RotationStatus,
  type WaitingAgent,
  type WaitingFor,
} from "../rpc/gen/spire/server/rotation/v1/rotation.ts";
import type { Client } from "../rpc/service.ts";
import { type Command, command, type Terminal } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { boolFlag, commaListFlag, type OutputFormat } from "./flags.ts";
import { formatGoDuration, formatRfc3339 } from "./go-text.ts";
import { counted, formatJson, print, reply } from "./print.ts";

type Api = Client<typeof RotationService>;

/** The exit code of a command that its user interrupted, as shells give it. */
const interrupted = 130;

/** Agents that are named; the rest are counted. */
const mostNamed = 20;

export const rotateStart = command({
  name: "rotate",
  summary:
    "Replaces the server's own authorities: prepares new ones, waits until every agent has them, activates them, " +
    "taints the old ones, waits until no SVID of theirs is in use, and revokes them. It runs in the server; " +
    "interrupting this command doesn't stop it",
  example: "rotate -kind x509",
  flags: {
    ...serverFlags,
    kind: commaListFlag(
      "Kind of authority: x509, jwt or wit; all that the server has unless said. Can be used more than once",
    ),
    detach: boolFlag("Start the rotation without following it"),
    emergency: boolFlag(
      "Wait half a minute at most, for agents that are there: cuts off all others that hold on to the old authorities",
    ),
    ignoreMinted: boolFlag("Don't wait for minted SVIDs to expire"),
    ignoreDownstream: boolFlag(
      "Don't wait for CA certificates of downstream servers to expire, only a minute for those that replace theirs",
    ),
  },
  run: async (invocation) =>
    withServer(invocation, async (channel) => {
      const { flags, terminal } = invocation;
      const { detach, emergency, ignoreMinted, ignoreDownstream, output } = flags;
      const api = channel.client(RotationService);
      const kinds = flags.kind.filter((kind) => kind !== "all");
      const request = { kinds, emergency, ignoreMinted, ignoreDownstream };
      const started = await within("could not start the rotation", api.startRotation(request));
      if (!detach) return follow(api, terminal, output);
      return print({
        output,
        terminal,
        replies: [reply(RotationService.startRotation, started)],
        pretty: () => terminal.out(`Rotation ${started.id} started.\n${howToGoOn}`),
      });
    }),
});

const howToGoOn =
  'Follow it with "rotate status -follow", stop it with "rotate stop", go back with "rotate undo".\n';

export const rotateStatus = command({
  name: "rotate status",
  summary: "Shows the rotation under way, or the last one, and whom it waits for",
  example: "rotate status -follow",
  flags: { ...serverFlags, follow: boolFlag("Go on showing it until it ends") },
  run: async (invocation) =>
    withServer(invocation, async (channel) => {
      const { flags, terminal } = invocation;
      const api = channel.client(RotationService);
      if (flags.follow) return follow(api, terminal, flags.output);
      const status = await within("could not get the rotation", api.getRotation({}));
      return print({
        output: flags.output,
        terminal,
        replies: [reply(RotationService.getRotation, status)],
        pretty: () => terminal.out(formatStatus(status, Date.now() / 1000)),
      });
    }),
});

export const rotateStop = changing({
  name: "rotate stop",
  summary: "Keeps the rotation under way where it is, until it is resumed or undone",
  call: (api) => api.stopRotation({}),
  done: ({ stage }) =>
    `Rotation stopped (${stage}). Go on with "rotate resume", or back with "rotate undo".\n`,
});

export const rotateResume = changing({
  name: "rotate resume",
  summary: "Goes on with a rotation that was stopped, or stopped by itself",
  call: (api) => api.resumeRotation({}),
  done: ({ stage }) => `Rotation resumed (${stage}). ${howToGoOn}`,
});

export const rotateUndo = changing({
  name: "rotate undo",
  summary:
    "Goes back to the old authorities, which is possible until they are revoked. What the new ones signed " +
    "stays valid until it is replaced",
  call: (api) => api.undoRotation({}),
  done: () => 'Rotation is being undone; see "rotate status".\n',
});

function changing(spec: {
  readonly name: string;
  readonly summary: string;
  readonly call: (api: Api) => Promise<RotationStatus>;
  readonly done: (status: RotationStatus) => string;
}): Command {
  return command({
    name: spec.name,
    summary: spec.summary,
    example: spec.name,
    flags: serverFlags,
    run: async (invocation) =>
      withServer(invocation, async (channel) => {
        const { flags, terminal } = invocation;
        const verb = spec.name.split(" ").at(-1);
        const status = await within(
          `could not ${verb} the rotation`,
          spec.call(channel.client(RotationService)),
        );
        return print({
          output: flags.output,
          terminal,
          // The three methods have one type of answer.
          replies: [reply(RotationService.getRotation, status)],
          pretty: () => terminal.out(spec.done(status)),
        });
      }),
  });
}

/**
 * Prints each stage as it comes, and whom it waits for whenever that changes; in JSON, an object a line.
 * @returns the exit code: 0 when it is done or undone, 1 when it stopped, 130 when this command was interrupted.
 */
async function follow(api: Api, terminal: Terminal, output: OutputFormat): Promise<number> {
  const end = new AbortController();
  let isInterrupted = false;
  void terminal.untilStopped().then(() => {
    isInterrupted = true;
    end.abort();
  });
  const show = output === "json" ? await jsonShower(terminal) : prettyShower(terminal);
  let last: RotationStatus | undefined;
  try {
    for await (const status of api.watchRotation({}, { signal: end.signal })) {
      last = status;
      show(status);
    }
  } catch (error) {
    if (!isInterrupted) throw lostSight(error);
  }
  if (isInterrupted) {
    terminal.err(`The rotation goes on in the server. ${howToGoOn}`);
    return interrupted;
  }
  return last?.stopped ? 1 : 0;
}

/** The server may have stopped; the rotation has not come to harm. */
function lostSight(error: unknown): SpireError {
  const known = SpireError.from(error);
  if (known.code !== "UNAVAILABLE") return known.within("could not follow the rotation");
  return known.within("lost sight of the rotation, which goes on as soon as the server runs");
}

async function jsonShower(terminal: Terminal): Promise<(status: RotationStatus) => void> {
  const { replyToJson } = await import("./json.ts");
  return (status) => {
    terminal.out(`${formatJson(replyToJson(reply(RotationService.watchRotation, status)))}\n`);
  };
}

function prettyShower(terminal: Terminal): (status: RotationStatus) => void {
  let stage = "";
  let shown = "";
  return (status) => {
    if (status.stage !== stage) {
      stage = status.stage;
      shown = "";
      terminal.out(`${formatRfc3339(status.stageSince)}  ${describeStage(status)}\n`);
    }
    // When who was seen changes all the time; who is waited for is what counts.
    const { waitingAgents, waitingFor, problem } = status;
    const names = waitingAgents.map(({ id, reason }) => `${id} ${reason}`).sort();
    const text = JSON.stringify([names, waitingFor, problem]);
    if (text !== shown) terminal.out(`${formatProblem(status)}${formatWaiting(status, Date.now() / 1000)}`);
    shown = text;
    if (status.stopped) terminal.out('Stopped. Go on with "rotate resume", or back with "rotate undo".\n');
  };
}

const stageTexts: Readonly<Record<string, string>> = {
  preparing: "prepares new authorities",
  distributing: "waits until every agent has the new authorities",
  activating: "activates the new authorities",
  tainting: "taints the old authorities",
  moving: "waits until no SVID of the old authorities is in use",
  revoking: "revokes the old authorities",
  done: "the new authorities have replaced the old ones",
  undoing: "goes back to the old authorities",
  undone: "the old authorities are in force again",
};

const describeStage = ({ stage }: RotationStatus): string => `${stage}: ${stageTexts[stage] ?? ""}`;

function formatStatus(status: RotationStatus, now: number): string {
  const fields: [string, string][] = [
    ["Rotation", `${status.id}${status.emergency ? " (emergency)" : ""}`],
    ["Kinds", status.kinds.join(", ")],
    ["Stage", `${describeStage(status)}${status.stopped ? " (stopped)" : ""}`],
    ["Since", formatRfc3339(status.stageSince)],
    ["Started", formatRfc3339(status.startedAt)],
    ["Can be undone", status.undoable ? "yes" : "no"],
  ];
  for (const { kind, newAuthorityId, oldAuthorityIds } of status.replacements) {
    fields.push([`New ${kind}`, newAuthorityId], [`Old ${kind}`, oldAuthorityIds.join(", ")]);
  }
  const head = fields.map(([label, value]) => `${`${label}:`.padEnd(17)}${value}\n`).join("");
  return `${head}${formatProblem(status)}${formatWaiting(status, now)}`;
}

const formatProblem = ({ problem }: RotationStatus): string =>
  problem === "" ? "" : `Problem: ${problem}\n`;

function formatWaiting(status: RotationStatus, now: number): string {
  const { waitingAgents, waitingAgentsCount, waitingFor } = status;
  const lines = waitingFor.map((other) => `  waits for ${describeOther(other)}\n`);
  if (waitingAgentsCount > 0) {
    lines.push(`  waits for ${counted(waitingAgentsCount, "agent", "agents")}:\n`);
    const named = waitingAgents.slice(0, mostNamed);
    lines.push(...named.map((agent) => `    ${describeAgent(agent, now)}\n`));
    const more = waitingAgentsCount - named.length;
    if (more > 0) lines.push(`    and ${more} more\n`);
  }
  return lines.join("");
}

function describeAgent(agent: WaitingAgent, now: number): string {
  const { id, reason, svids, until, lastSeenAt } = agent;
  const reasons: Readonly<Record<string, string>> = {
    bundle: "has not fetched the bundle",
    agent_svid: "has an SVID of its own of an old authority",
    workload_svids: `its workloads have ${counted(svids, "SVID", "SVIDs")} of an old authority`,
  };
  const age = formatGoDuration(Math.max(0, Math.floor(now - lastSeenAt)) * 1000);
  const seen = lastSeenAt === 0 ? "never seen" : `last seen ${age} ago`;
  const limit = until > 0 ? `; is waited for until ${formatRfc3339(until)} at most` : "";
  return `${id}: ${reasons[reason] ?? reason}; ${seen}${limit}`;
}

function describeOther({ kind, holders, until }: WaitingFor): string {
  if (holders === "relays") {
    return `other servers of the trust domain to pass it on (${kind}), until ${formatRfc3339(until)}`;
  }
  const names: Readonly<Record<string, string>> = {
    workloads: `${kind.toUpperCase()}-SVIDs of workloads`,
    minted: `minted ${kind === "x509" ? "X.509" : kind.toUpperCase()}-SVIDs`,
    downstream: "CA certificates of downstream servers",
    server: "the server's own SVID",
  };
  const end = until > 0 ? `, the last of which expires at ${formatRfc3339(until)}` : "";
  return `${names[holders] ?? holders}${end}`;
}

async function within<T>(what: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw SpireError.from(error).within(what);
  }
}
