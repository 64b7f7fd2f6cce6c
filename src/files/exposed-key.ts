/** Key files of the operator's own: who else can read them. */
import { statSync } from "node:fs";

const everybody = 0o007;

interface WarningLog {
  warn(message: string, fields: { readonly path: string; readonly remedy: string }): void;
}

/**
 * Warns of a private key that every user of the machine may read or change. It is not refused, as keys.json is: who
 * made the file, and what else depends on its rights, is not known here. One that isn't there is left to its reader.
 */
export function warnOfExposedKey(path: string, log: WarningLog): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found || (found.mode & everybody) === 0) return;
  log.warn("Every user of this machine may read or change a private key", {
    path,
    remedy: `run chmod o-rwx "${path}"`,
  });
}
