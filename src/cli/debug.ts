/** `spire server debug getinfo`: counts, uptime and the certificates that the server shows. */
import { DebugService } from "../rpc/gen/spire/api/server/debug/v1/debug.ts";
import { command } from "./command.ts";
import { serverFlags, withServer } from "./connection.ts";
import { formatIdMessage } from "./entry-data.ts";
import { formatGoDuration, formatRfc3339 } from "./go-text.ts";
import { print, reply } from "./print.ts";

type Info = Parameters<typeof DebugService.getInfo.responseSerialize>[0];

export const serverDebugGetInfo = command({
  name: "debug getinfo",
  summary: "Shows debug information about the server",
  example: "debug getinfo",
  flags: serverFlags,
  run: async (invocation) => {
    const { flags, terminal } = invocation;
    return withServer(invocation, async (channel) => {
      const info = await channel.client(DebugService).getInfo({});
      return print({
        output: flags.output,
        terminal,
        replies: [reply(DebugService.getInfo, info)],
        pretty: () => terminal.out(formatInfo(info)),
      });
    });
  },
});

function formatInfo(info: Info): string {
  const counts: [string, string][] = [
    ["Uptime:", formatGoDuration(info.uptime * 1000)],
    ["Registered Agents:", String(info.agentsCount)],
    ["Registration Entries:", String(info.entriesCount)],
    ["Federated Bundles:", String(info.federatedBundlesCount)],
  ];
  const lines = counts.map(([label, value]) => `  ${label.padEnd(25)}${value}\n`);
  const chain = info.svidChain.map(
    ({ id, subject, expiresAt }, index) =>
      `    [${index}] SPIFFE ID:  ${formatIdMessage(id)}\n` +
      `        Subject:    ${subject}\n` +
      `        Expires At: ${formatRfc3339(expiresAt)}\n`,
  );
  return `Server Debug Info:\n${lines.join("")}  SVID Chain:\n${chain.join("")}`;
}
