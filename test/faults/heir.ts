/**
 * Child process: a workload that opens a stream and starts a child which inherits its connection. Both print JSON, a
 * value a line: the workload `{"served":true}` after the first message, the heir `{"pid":…}` and then each frame
 * that it reads. On SIGUSR1 the heir opens a stream of its own on the connection.
 */
import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { connect } from "node:net";
import {
  createFrameReader,
  encodeCall,
  encodeOpening,
  frameTypes,
  securityHeader,
  workloadApiPath,
} from "./raw-http2.ts";

const say = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);
const openStream = (streamId: number): Buffer =>
  encodeCall(streamId, workloadApiPath("FetchX509SVID"), securityHeader);

function beWorkload(path: string): void {
  const socket = connect(path);
  const read = createFrameReader();
  socket.write(Buffer.concat([encodeOpening(), openStream(1)]));
  socket.on("data", (bytes: Buffer) => {
    if (!read(bytes).some(({ type }) => type === frameTypes.data)) return;
    socket.pause();
    const handle: unknown = Reflect.get(socket, "_handle");
    const descriptor: unknown =
      typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : -1;
    spawn(process.execPath, [import.meta.path, "heir"], {
      stdio: [Number(descriptor), "inherit", "inherit"],
    });
    say({ served: true });
  });
}

async function beHeir(): Promise<void> {
  process.on("SIGUSR1", () => writeSync(0, openStream(3)));
  say({ pid: process.pid });
  const read = createFrameReader();
  for await (const bytes of Bun.stdin.stream()) {
    for (const { type, flags, streamId } of read(Buffer.from(bytes))) say({ type, flags, streamId });
  }
  say({ over: true });
}

const [socketPath = ""] = process.argv.slice(2);
if (socketPath === "heir") void beHeir();
else beWorkload(socketPath);
