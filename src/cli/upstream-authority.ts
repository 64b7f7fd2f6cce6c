/** `spire server upstreamauthority …`: an authority above the server's, tainted and revoked by hand. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { LocalAuthorityService } from "../rpc/gen/spire/api/server/localauthority/v1/localauthority.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { stringFlag } from "./flags.ts";
import { print, type Reply, reply } from "./print.ts";

const keyIdFlags = {
  ...serverFlags,
  subjectKeyID: stringFlag("The Subject Key ID of the X.509 upstream authority"),
};

const exampleId = "551d99b41ea3ca7a9cba224bb9921ad5bd100d0d";

function requireKeyId(subjectKeyId: string): string {
  if (subjectKeyId !== "") return subjectKeyId;
  throw invalidArgument("the Subject Key ID of the X.509 upstream authority is required");
}

interface Step {
  readonly verb: "taint" | "revoke";
  readonly done: string;
  readonly summary: string;
  readonly method: "taintX509UpstreamAuthority" | "revokeX509UpstreamAuthority";
}

const stepCommand = ({ verb, done, summary, method }: Step) =>
  command({
    name: `upstreamauthority ${verb}`,
    summary,
    example: `upstreamauthority ${verb} -subjectKeyID ${exampleId}`,
    flags: keyIdFlags,
    run: async (invocation) => {
      const { flags, terminal } = invocation;
      const subjectKeyId = requireKeyId(flags.subjectKeyID);
      return withServer(invocation, async (channel) => {
        const api = channel.client(LocalAuthorityService);
        const answer = await within(`could not ${verb} X.509 upstream authority`, async () =>
          reply(LocalAuthorityService[method], await api[method]({ subjectKeyId })),
        );
        return print({
          output: flags.output,
          terminal,
          replies: [answer],
          pretty: () => terminal.out(formatDone(done, subjectKeyId)),
        });
      });
    },
  });

export const upstreamAuthorityTaint = stepCommand({
  verb: "taint",
  done: "Tainted",
  summary: "Marks an X.509 upstream authority, so that all it signed is replaced",
  method: "taintX509UpstreamAuthority",
});

export const upstreamAuthorityRevoke = stepCommand({
  verb: "revoke",
  done: "Revoked",
  summary: "Takes a tainted X.509 upstream authority out of the trust bundle",
  method: "revokeX509UpstreamAuthority",
});

const formatDone = (done: string, subjectKeyId: string): string =>
  `${done} X.509 upstream authority:\n  Subject Key ID: ${subjectKeyId}\n`;

async function within(context: string, work: () => Promise<Reply>): Promise<Reply> {
  try {
    return await work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
