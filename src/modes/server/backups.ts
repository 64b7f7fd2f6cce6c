/** The schedule of backups that a server's settings ask for. */
import { statSync } from "node:fs";
import type { BackupConfig } from "../../config/server-config.ts";
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/log.ts";
import type { Metrics } from "../../core/metrics.ts";
import type { Task } from "../../core/tasks.ts";
import { startScheduledBackups } from "../../server/backup/schedule.ts";
import type { BackUp } from "../backup/child.ts";
import { makeBackup } from "../backup/make.ts";
import type { ServerSettings } from "./settings.ts";

export interface BackupDependencies {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** How one is made; unless given, in this process. */
  readonly backUp?: BackUp;
}

export function startBackups(
  settings: ServerSettings & { readonly backup: BackupConfig },
  { clock, log, metrics, backUp = inThisProcess(clock) }: BackupDependencies,
): Task {
  const { trustDomain, dataStore, keyManager, backup } = settings;
  const keysPath = backup.withKeys && keyManager.type === "disk" ? keyManager.keysPath : undefined;
  return startScheduledBackups({
    ...backup,
    trustDomain,
    clock,
    log,
    metrics,
    backUp: (target, signal) =>
      backUp(
        {
          trustDomain,
          databasePath: dataStore.path,
          target,
          replace: false,
          ...(keysPath === undefined ? {} : { keysPath }),
        },
        signal,
      ),
  });
}

const inThisProcess =
  (clock: Clock): BackUp =>
  async (job) => {
    const { counts, keys } = await makeBackup(job, clock);
    return {
      bytes: statSync(job.target).size,
      entries: counts.entries,
      agents: counts.agents,
      holdsCaKeys: keys !== undefined,
    };
  };
