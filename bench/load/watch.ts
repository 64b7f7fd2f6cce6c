/**
 * A workload that watches its X.509-SVIDs: `bun bench/load/watch.ts SOCKET`. It prints JSON, one value a line:
 * first `{}` once it is looking for the socket, then `{at, ids}` for each update, `at` in milliseconds since
 * the Unix epoch.
 */
import { existsSync } from "node:fs";
import { SpireError } from "../../src/core/errors.ts";
import { dialUnix } from "../../src/rpc/dial.ts";
import {
  SpiffeWorkloadAPIService,
  type X509SVIDResponse,
} from "../../src/rpc/gen/spiffe/workload/workloadapi.ts";
import { epochMs } from "../row.ts";

const pollMs = 1;
const metadata = { "workload.spiffe.io": "true" };

/** Updates of one stream; ends without one when the socket is not answering yet. */
async function* updates(socket: string): AsyncGenerator<X509SVIDResponse, void> {
  const channel = dialUnix(socket);
  try {
    yield* channel.client(SpiffeWorkloadAPIService).fetchX509Svid({}, { metadata });
  } catch (error) {
    if (!["UNAVAILABLE", "PERMISSION_DENIED"].includes(SpireError.from(error).code)) throw error;
  } finally {
    channel.close();
  }
}

async function watch(socket: string): Promise<void> {
  console.log("{}");
  for (;;) {
    while (!existsSync(socket)) await Bun.sleep(pollMs);
    for await (const { svids } of updates(socket)) {
      console.log(JSON.stringify({ at: epochMs(), ids: svids.map((svid) => svid.spiffeId) }));
    }
    await Bun.sleep(pollMs);
  }
}

watch(process.argv[2] ?? "");
