/** `spire server localauthority …`: the server's own authorities, looked at and rotated by hand. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import {
  type AuthorityState,
  LocalAuthorityService,
} from "../rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import type { Client } from "../rpc/service.ts";
import { type Command, command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { stringFlag } from "./flags.ts";
import { formatGoUtcTime } from "./go-text.ts";
import { print, type Reply, reply } from "./print.ts";

type Api = Client<typeof LocalAuthorityService>;

type State = AuthorityState | undefined;

interface Answer {
  readonly reply: Reply;
  readonly state: State;
}

/** What the commands of one kind of authority ask the server. */
interface KindApi {
  /** The word of the command line. */
  readonly word: string;
  readonly name: string;
  /** Whether authorities of the kind can come from an upstream authority. */
  readonly hasUpstream: boolean;
  show(api: Api): Promise<{ reply: Reply; active: State; prepared: State; old: State }>;
  prepare(api: Api): Promise<Answer>;
  activate(api: Api, authorityId: string): Promise<Answer>;
  taint(api: Api, authorityId: string): Promise<Answer>;
  revoke(api: Api, authorityId: string): Promise<Answer>;
}

const service = LocalAuthorityService;

const x509: KindApi = {
  word: "x509",
  name: "X.509",
  hasUpstream: true,
  async show(api) {
    const answer = await api.getX509AuthorityState({});
    return { ...answer, reply: reply(service.getX509AuthorityState, answer) };
  },
  async prepare(api) {
    const answer = await api.prepareX509Authority({});
    return { reply: reply(service.prepareX509Authority, answer), state: answer.preparedAuthority };
  },
  async activate(api, authorityId) {
    const answer = await api.activateX509Authority({ authorityId });
    return { reply: reply(service.activateX509Authority, answer), state: answer.activatedAuthority };
  },
  async taint(api, authorityId) {
    const answer = await api.taintX509Authority({ authorityId });
    return { reply: reply(service.taintX509Authority, answer), state: answer.taintedAuthority };
  },
  async revoke(api, authorityId) {
    const answer = await api.revokeX509Authority({ authorityId });
    return { reply: reply(service.revokeX509Authority, answer), state: answer.revokedAuthority };
  },
};

const jwt: KindApi = {
  word: "jwt",
  name: "JWT",
  hasUpstream: false,
  async show(api) {
    const answer = await api.getJwtAuthorityState({});
    return { ...answer, reply: reply(service.getJwtAuthorityState, answer) };
  },
  async prepare(api) {
    const answer = await api.prepareJwtAuthority({});
    return { reply: reply(service.prepareJwtAuthority, answer), state: answer.preparedAuthority };
  },
  async activate(api, authorityId) {
    const answer = await api.activateJwtAuthority({ authorityId });
    return { reply: reply(service.activateJwtAuthority, answer), state: answer.activatedAuthority };
  },
  async taint(api, authorityId) {
    const answer = await api.taintJwtAuthority({ authorityId });
    return { reply: reply(service.taintJwtAuthority, answer), state: answer.taintedAuthority };
  },
  async revoke(api, authorityId) {
    const answer = await api.revokeJwtAuthority({ authorityId });
    return { reply: reply(service.revokeJwtAuthority, answer), state: answer.revokedAuthority };
  },
};

interface KindCommands {
  readonly show: Command;
  readonly prepare: Command;
  readonly activate: Command;
  readonly taint: Command;
  readonly revoke: Command;
}

export const x509AuthorityCommands: KindCommands = commandsOf(x509);
export const jwtAuthorityCommands: KindCommands = commandsOf(jwt);

function commandsOf(kind: KindApi): KindCommands {
  const name = (verb: string) => `localauthority ${kind.word} ${verb}`;
  return {
    show: command({
      name: name("show"),
      summary: `Shows the active, prepared and old ${kind.name} authorities`,
      example: name("show"),
      flags: serverFlags,
      run: async (invocation) =>
        withServer(invocation, async (channel) => {
          const { flags, terminal } = invocation;
          const asked = kind.show(channel.client(service));
          // SPIRE puts words before it for one of the kinds only.
          const answer = await (kind === x509
            ? within("could not get X.509 authorities", () => asked)
            : asked);
          const { active, prepared, old } = answer;
          const parts = [
            formatPart(kind, "Active", active),
            formatPart(kind, "Prepared", prepared),
            formatPart(kind, "Old", old),
          ];
          return print({
            output: flags.output,
            terminal,
            replies: [answer.reply],
            pretty: () => terminal.out(parts.join("\n")),
          });
        }),
    }),
    prepare: command({
      name: name("prepare"),
      summary: `Makes the next ${kind.name} authority and publishes it, without using it yet`,
      example: name("prepare"),
      flags: serverFlags,
      run: async (invocation) =>
        withServer(invocation, async (channel) => {
          const { flags, terminal } = invocation;
          const { reply, state } = await within(`could not prepare ${kind.name} authority`, () =>
            kind.prepare(channel.client(service)),
          );
          return print({
            output: flags.output,
            terminal,
            replies: [reply],
            pretty: () => terminal.out(formatPart(kind, "Prepared", state)),
          });
        }),
    }),
    activate: changing(kind, "activate", "Activated", "Begins to sign with the prepared {} authority"),
    taint: changing(
      kind,
      "taint",
      "Tainted",
      "Marks the old {} authority, so that all it signed is replaced",
    ),
    revoke: changing(kind, "revoke", "Revoked", "Takes the tainted old {} authority out of the trust bundle"),
  };
}

/** A command that names an authority. */
function changing(
  kind: KindApi,
  verb: "activate" | "taint" | "revoke",
  done: string,
  summary: string,
): Command {
  const name = `localauthority ${kind.word} ${verb}`;
  return command({
    name,
    summary: summary.replace("{}", kind.name),
    example: `${name} -authorityID 551d99b41ea3ca7a9cba224bb9921ad5bd100d0d`,
    flags: {
      ...serverFlags,
      authorityID: stringFlag(`The authority ID of the ${kind.name} authority to ${verb}`),
    },
    run: async (invocation) => {
      const { flags, terminal } = invocation;
      if (flags.authorityID === "") throw invalidArgument("an authority ID is required");
      return withServer(invocation, async (channel) => {
        const { reply, state } = await within(`could not ${verb} ${kind.name} authority`, () =>
          kind[verb](channel.client(service), flags.authorityID),
        );
        return print({
          output: flags.output,
          terminal,
          replies: [reply],
          pretty: () => terminal.out(formatPart(kind, done, state)),
        });
      });
    },
  });
}

function formatPart(kind: KindApi, title: string, state: State): string {
  const head = `${title} ${kind.name} authority:\n`;
  if (!state) return `${head}  No ${title.toLowerCase()} ${kind.name} authority found\n`;
  const { authorityId, expiresAt, upstreamAuthoritySubjectKeyId: upstream } = state;
  const from =
    upstream === ""
      ? "  Upstream authority ID: No upstream authority\n"
      : `  Upstream authority Subject Key ID: ${upstream}\n`;
  const body = `  Authority ID: ${authorityId}\n  Expires at: ${formatGoUtcTime(expiresAt)}\n`;
  return `${head}${body}${kind.hasUpstream ? from : ""}`;
}

async function within<T>(context: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
