/** `spire server jwt mint`: a JWT-SVID signed by the server, without an entry. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import type { Channel } from "../rpc/dial.ts";
import { SVIDService } from "../rpc/gen/spire/api/server/svid/v1/svid.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { spiffeIdMessage } from "./entry-data.ts";
import { privateMode, writeTextFile } from "./files.ts";
import { durationFlag, listFlag, stringFlag } from "./flags.ts";
import { capWarning, wholeSeconds } from "./mint.ts";
import { print, reply } from "./print.ts";

type MintRequest = Parameters<typeof SVIDService.mintJwtsvid.requestSerialize>[0];

export const jwtMint = command({
  name: "jwt mint",
  summary: "Mints a JWT-SVID",
  example: "jwt mint -spiffeID spiffe://example.org/web -audience api -ttl 10m",
  flags: {
    ...serverFlags,
    spiffeID: stringFlag("SPIFFE ID of the JWT-SVID"),
    audience: listFlag("Audience claim that will be included in the SVID. Can be used more than once"),
    ttl: durationFlag("TTL of the JWT-SVID; the server's default if not set"),
    write: stringFlag("File to write the token to instead of standard output"),
  },
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    if (flags.spiffeID === "") throw invalidArgument("spiffeID must be specified");
    if (flags.audience.length === 0) throw invalidArgument("at least one audience must be specified");
    const id = spiffeIdMessage(flags.spiffeID);
    const ttl = wholeSeconds(flags.ttl);
    return withServer(invocation, async (channel) => {
      const response = await mint(channel, { id, audience: [...flags.audience], ttl });
      const token = response.svid?.token ?? "";
      terminal.err(capWarning("JWT-SVID", response.svid?.expiresAt ?? 0, ttl));
      if (flags.write !== "") {
        await writeToken(flags.write, token);
        terminal.out(`JWT-SVID written to ${flags.write}\n`);
        return 0;
      }
      return print({
        output: flags.output,
        terminal,
        replies: [reply(SVIDService.mintJwtsvid, response)],
        pretty: () => terminal.out(`${token}\n`),
      });
    });
  },
});

async function mint(channel: Channel, request: MintRequest) {
  try {
    return await channel.client(SVIDService).mintJwtsvid(request);
  } catch (error) {
    throw SpireError.from(error).within("unable to mint SVID");
  }
}

async function writeToken(path: string, token: string): Promise<void> {
  try {
    await writeTextFile(path, token, privateMode);
  } catch (error) {
    throw SpireError.from(error).within("unable to write token");
  }
}
