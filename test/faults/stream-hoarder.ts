/**
 * Child process: opens streams of X.509-SVIDs on a few connections and lets them be. By `how` it reads each
 * stream's first message ("first"), reads everything but grants no window ("no-window"), or reads nothing at all
 * ("nothing"). Prints `open` once they are, then stays until it is killed.
 */
import { connect } from "node:net";
import {
  createFrameReader,
  encodeCall,
  encodeOpening,
  encodeWindow,
  frameTypes,
  securityHeader,
  workloadApiPath,
} from "./raw-http2.ts";

const [socketPath = "", how = "first", connections = "4", streams = "500"] = process.argv.slice(2);
function open(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.on("error", reject);
    if (how === "nothing") socket.pause();
    const answered = new Set<number>();
    const read = createFrameReader();
    if (how !== "nothing") {
      socket.on("data", (bytes: Buffer) => {
        for (const { type, streamId } of read(bytes)) if (type === frameTypes.data) answered.add(streamId);
        if (answered.size === Number(streams)) resolve();
      });
    }
    const calls = Array.from({ length: Number(streams) }, (_, at) =>
      encodeCall(2 * at + 1, workloadApiPath("FetchX509SVID"), securityHeader),
    );
    const window = how === "first" ? [encodeWindow(0, 2 ** 30)] : [];
    // All of them at once, in one write.
    socket.write(Buffer.concat([encodeOpening(), ...window, ...calls]), () => {
      if (how !== "first") resolve();
    });
  });
}

async function hoard(): Promise<void> {
  await Promise.all(Array.from({ length: Number(connections) }, open));
  process.stdout.write("open\n");
}

void hoard();
