/** What the commands `backup`, `restore` and `import` run, by the machine's clock. */
import { systemClock } from "../../core/clock.ts";
import { type ImportJob, takeOver } from "../import/take-over.ts";
import { type BackupJob, makeBackup } from "./make.ts";
import { type RestoreJob, restoreBackup } from "./restore.ts";

export const runBackup = (job: BackupJob) => makeBackup(job, systemClock);

export const runRestore = (job: RestoreJob) => restoreBackup(job, systemClock);

export const runImport = (job: ImportJob) => takeOver(job, systemClock);
