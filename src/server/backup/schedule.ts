/** Backups on a schedule: one each interval, counted from the newest that is there; the oldest ones go. */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { type Metrics, measured } from "../../core/metrics.ts";
import type { TrustDomain } from "../../core/spiffe-id.ts";
import { startTask, type Task } from "../../core/tasks.ts";
import { reasonOf } from "../../files/failure.ts";

/** What is told of a backup that was made and proven. */
export interface BackupResult {
  readonly bytes: number;
  readonly entries: number;
  readonly agents: number;
  readonly holdsCaKeys: boolean;
}

export interface ScheduledBackupOptions {
  readonly directory: string;
  readonly intervalMs: number;
  /** At least 1. */
  readonly keep: number;
  readonly trustDomain: TrustDomain;
  /** Makes and proves one. @throws SpireError; then there is no file. */
  readonly backUp: (target: string, signal: AbortSignal) => Promise<BackupResult>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
}

const firstRetryMs = 60_000;
const longestRetryMs = 3_600_000;

/** A backup that fails is logged and counted, and tried again; nothing else stops for it. */
export function startScheduledBackups(options: ScheduledBackupOptions): Task {
  const { directory, intervalMs, keep, trustDomain, clock, log, metrics } = options;

  async function make(signal: AbortSignal): Promise<void> {
    const path = join(directory, nameAt(trustDomain, clock.now()));
    const made = await measured(metrics, ["backup"], () => options.backUp(path, signal));
    metrics.gauge(["backup", "last_success"], Math.floor(clock.now() / 1000));
    metrics.gauge(["backup", "size_bytes"], made.bytes);
    log.info("Backup made and proven", {
      path,
      bytes: made.bytes,
      entries: made.entries,
      agents: made.agents,
      holds_ca_keys: made.holdsCaKeys,
    });
  }

  function removeOld(): void {
    for (const { name } of backupsIn(directory, trustDomain, clock.now()).slice(0, -keep)) {
      rmSync(join(directory, name), { force: true });
      log.info("Old backup removed", { path: join(directory, name) });
    }
  }

  return startTask({
    name: "Scheduled backup",
    clock,
    log,
    backoff: {
      initialMs: Math.min(firstRetryMs, intervalMs),
      maximumMs: Math.min(longestRetryMs, intervalMs),
    },
    async run(signal) {
      makeDirectory(directory);
      const wait = untilDue(directory, trustDomain, intervalMs, clock.now());
      if (wait > 0) return wait;
      await make(signal);
      removeOld();
      return intervalMs;
    },
  });
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `backup directory "${path}" can't be made: ${reasonOf(cause)}`,
      {
        cause,
      },
    );
  }
}

/** Milliseconds. */
function untilDue(directory: string, trustDomain: TrustDomain, intervalMs: number, now: number): number {
  const newest = backupsIn(directory, trustDomain, now).at(-1);
  return newest && newest.madeAt <= now ? newest.madeAt + intervalMs - now : 0;
}

const nameAt = (trustDomain: TrustDomain, now: number): string =>
  `${trustDomain}-${new Date(now).toISOString().replace(/[-:]|\.\d+/g, "")}.backup`;

interface BackupName {
  readonly name: string;
  /** Milliseconds since the Unix epoch. */
  readonly madeAt: number;
}

/**
 * Those that a schedule has made for the trust domain, oldest first. Those from the future were made before the clock
 * was put back, so they count as older than all others.
 */
function backupsIn(directory: string, trustDomain: TrustDomain, now: number): readonly BackupName[] {
  const form = /^-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z\.backup$/;
  const found = readdirSync(directory)
    .filter((name) => name.startsWith(`${trustDomain}-`))
    .flatMap((name) => {
      const parts = form.exec(name.slice(trustDomain.length));
      if (!parts) return [];
      const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.slice(1).map(Number);
      return [{ name, madeAt: Date.UTC(year, month - 1, day, hour, minute, second) }];
    })
    .sort((a, b) => a.madeAt - b.madeAt);
  const isPast = ({ madeAt }: BackupName) => madeAt <= now;
  return [...found.filter((backup) => !isPast(backup)), ...found.filter(isPast)];
}
