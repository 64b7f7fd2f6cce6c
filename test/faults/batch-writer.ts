/**
 * Child process: clients that create entries in batches without end, each over a connection of its own. Prints the
 * number of each batch that the server acknowledged in full, and why a client gave up.
 */
import { SpireError } from "../../src/core/errors.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import { EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { entryMessage, idMessage } from "../server/running.ts";

const [socket = "", first = "0", clients = "4", size = "50"] = process.argv.slice(2);

async function write(start: number): Promise<void> {
  const channel = dialUnix(socket);
  const client = channel.client(EntryService);
  for (let batch = start; ; batch += Number(clients)) {
    const entries = Array.from({ length: Number(size) }, (_, at) =>
      entryMessage({
        id: `${batch}-${at}`,
        spiffeId: idMessage(`/batch/${batch}/${at}`),
        selectors: [{ type: "unix", value: `gid:${at}` }],
      }),
    );
    try {
      const { results } = await client.batchCreateEntry({ entries, outputMask: undefined });
      const refused = results.find(({ status }) => status?.code !== 0);
      process.stdout.write(refused ? `refused ${refused.status?.message}\n` : `${batch}\n`);
      if (refused) break;
    } catch (error) {
      const { code, message } = SpireError.from(error);
      process.stdout.write(`${code} ${message.replaceAll("\n", " ")}\n`);
      break;
    }
  }
  channel.close();
}

void Promise.all(Array.from({ length: Number(clients) }, (_, at) => write(Number(first) + at)));
