/** Tells systemd how the program does (sd_notify(3)), and that it is still alive (sd_watchdog_enabled(3)). */
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/log.ts";
import { startTask } from "../core/tasks.ts";

export interface ServiceManager {
  /** The program does its work; `status` is shown by `systemctl status`. The watchdog is fed from now on. */
  ready(status: string): void;
  /** It takes up new settings; `ready` is said again once `work` is over. */
  reloading(work: () => Promise<void>): Promise<void>;
  /** It is about to end, in an orderly way. */
  stopping(): void;
  /** Feeds the watchdog no more. */
  close(): Promise<void>;
}

export interface ServiceManagerOptions {
  /** NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID count. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly pid: number;
  readonly clock: Clock;
  readonly log: Logger;
}

const nobody: ServiceManager = {
  ready() {},
  reloading: (work) => work(),
  stopping() {},
  close: async () => {},
};

/** Whoever started the program; does nothing unless that is systemd, or something that speaks its protocol. */
export async function connectServiceManager(options: ServiceManagerOptions): Promise<ServiceManager> {
  const { env, log } = options;
  const address = env["NOTIFY_SOCKET"];
  if (!address) return nobody;
  const { openDatagramSender } = await import("./unix-datagram.ts");
  const sender = openDatagramSender(address);
  if (!sender) {
    log.warn("Can't notify the service manager: NOTIFY_SOCKET is neither a path nor an abstract name", {
      address,
    });
    return nobody;
  }
  const send = (...assignments: readonly string[]) => {
    if (sender.send(assignments.join("\n"))) return;
    log.debug("The service manager did not take a notification", { address });
  };
  let last = "";
  let watchdog: ReturnType<typeof startTask> | undefined;
  return {
    ready(status) {
      // A line break would begin another assignment.
      last = `STATUS=${status.replaceAll("\n", " ")}`;
      send("READY=1", last);
      watchdog ??= startWatchdog(options, () => send("WATCHDOG=1"));
    },
    async reloading(work) {
      send("RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`, "STATUS=Reloading");
      try {
        await work();
      } finally {
        send("READY=1", last);
      }
    },
    stopping: () => send("STOPPING=1", "STATUS=Stopping"),
    async close() {
      await watchdog?.stop();
      sender.close();
    },
  };
}

/** At half of the time that the service manager waits for a sign of life. */
function startWatchdog({ env, pid, clock, log }: ServiceManagerOptions, feed: () => void) {
  const microseconds = Number(env["WATCHDOG_USEC"] ?? 0);
  const watched = env["WATCHDOG_PID"];
  if (!(microseconds > 0) || (watched !== undefined && watched !== String(pid))) return undefined;
  const everyMs = microseconds / 2_000;
  const backoff = { initialMs: everyMs, maximumMs: everyMs };
  return startTask({
    name: "watchdog",
    clock,
    log,
    backoff,
    async run() {
      feed();
      return everyMs;
    },
  });
}
