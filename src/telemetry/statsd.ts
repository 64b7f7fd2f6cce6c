/** Sends values to a StatsD or DogStatsD collector, as lines of text in UDP packets. */
import { createSocket } from "node:dgram";
import type { Clock } from "../core/clock.ts";
import { SpireError } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import type { MetricSink, Series } from "./metrics.ts";

export interface StatsdOptions {
  readonly host: string;
  readonly port: number;
  /** Plain StatsD knows no labels: their values are words of the name, as SPIRE has it. DogStatsD has tags. */
  readonly dialect: "statsd" | "dogstatsd";
  readonly clock: Clock;
  readonly log: Logger;
}

export interface StatsdSink extends MetricSink {
  /** Sends what is left. */
  close(): Promise<void>;
}

/** A packet that fits into an Ethernet frame with its headers. */
const packetBytes = 1_400;
const flushMs = 100;

/** A collector that can't be reached is named in the log once, until it can be again; its values are lost. */
export function createStatsdSink({ host, port, dialect, clock, log }: StatsdOptions): StatsdSink {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.unref();
  let packet = "";
  let cancelTimer: (() => void) | undefined;
  let failing = false;

  function note(error: Error | null): void {
    if (error && !failing) {
      const about = { address: `${host}:${port}`, error: SpireError.from(error) };
      log.warn("Metrics could not be sent", about);
    }
    failing = error !== null;
  }
  socket.on("error", note);

  const send = (text: string): Promise<void> =>
    new Promise((resolve) => {
      socket.send(text, port, host, (error) => {
        note(error);
        resolve();
      });
    });

  function flush(): Promise<void> {
    cancelTimer?.();
    cancelTimer = undefined;
    const text = packet;
    packet = "";
    return text === "" ? Promise.resolve() : send(text);
  }

  function push(line: string): void {
    if (packet.length + line.length > packetBytes) void flush();
    packet += line;
    cancelTimer ??= clock.after(flushMs, () => void flush());
  }

  const recorder = (series: Series, type: "g" | "c" | "ms") => {
    const [before, after] = dialect === "statsd" ? plainFrame(series, type) : taggedFrame(series, type);
    return (value: number) => push(`${before}${value}${after}`);
  };
  return {
    gauge: (series) => recorder(series, "g"),
    counter: (series) => recorder(series, "c"),
    sample: (series) => recorder(series, "ms"),
    async close() {
      await flush();
      socket.close();
    },
  };
}

/** What stands before and after the value. */
type Frame = readonly [before: string, after: string];

const clean = (text: string): string => text.replace(/[: ]/g, "_");

function plainFrame({ name, labels }: Series, type: string): Frame {
  return [`${clean([...name, ...labels.map(([, value]) => value)].join("."))}:`, `|${type}\n`];
}

function taggedFrame({ name, labels }: Series, type: string): Frame {
  const tags = labels.map(([label, value]) =>
    value === "" ? clean(label) : `${clean(label)}:${clean(value)}`,
  );
  return [`${clean(name.join("."))}:`, `|${type}${tags.length > 0 ? `|#${tags.join(",")}` : ""}\n`];
}
