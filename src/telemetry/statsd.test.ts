import { afterEach, expect, test } from "bun:test";
import { createSocket, type Socket } from "node:dgram";
import { createManualClock } from "../core/clock.ts";
import { nullLogger } from "../core/log.ts";
import { createStatsdSink, type StatsdOptions } from "./statsd.ts";

const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

async function collector() {
  const socket = createSocket("udp4");
  sockets.push(socket);
  const packets: string[] = [];
  let arrived = Promise.withResolvers<void>();
  socket.on("message", (message) => {
    packets.push(message.toString());
    arrived.resolve();
    arrived = Promise.withResolvers();
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  return {
    port,
    async packets(count: number) {
      while (packets.length < count) await arrived.promise;
      return packets;
    },
  };
}

function sinkTo(port: number, dialect: StatsdOptions["dialect"], log = nullLogger) {
  const clock = createManualClock(0);
  return { clock, ...createStatsdSink({ host: "127.0.0.1", port, dialect, clock, log }) };
}

const series = {
  name: ["spire_server", "rpc", "a:b"],
  labels: [["status", "OK"] as const, ["host", "my vm"] as const],
};

test("StatsD gets labels as words of the name", async () => {
  const { port, packets } = await collector();
  const { gauge, counter, sample, close } = sinkTo(port, "statsd");
  gauge(series)(5);
  counter(series)(1);
  sample(series)(0.25);
  await close();
  const name = "spire_server.rpc.a_b.OK.my_vm";
  expect(await packets(1)).toEqual([`${name}:5|g\n${name}:1|c\n${name}:0.25|ms\n`]);
});

test("DogStatsD gets labels as tags", async () => {
  const { port, packets } = await collector();
  const { counter, close } = sinkTo(port, "dogstatsd");
  counter(series)(2);
  counter({ name: ["a"], labels: [] })(1);
  await close();
  expect(await packets(1)).toEqual(["spire_server.rpc.a_b:2|c|#status:OK,host:my_vm\na:1|c\n"]);
});

test("lines wait for others a tenth of a second, and no packet is larger than a frame", async () => {
  const { port, packets } = await collector();
  const { counter, clock, close } = sinkTo(port, "statsd");
  const record = counter({ name: ["x".repeat(600)], labels: [] });
  for (let index = 0; index < 3; index++) record(1);
  expect((await packets(1))[0]).toHaveLength(2 * 605);
  await clock.advance(100);
  expect((await packets(2))[1]).toHaveLength(605);
  await close();
});
