/** The `backup` section: raw values > a schedule of backups, checked. An extension of SPIRE's configuration. */
import { quote } from "../core/go-text.ts";
import type { Checks } from "./checks.ts";
import type { Origin } from "./origin.ts";
import type { BackupConfig, ServerConfig } from "./server-config.ts";
import type { RawServerFile } from "./server-schema.ts";

type RawBackup = NonNullable<NonNullable<RawServerFile["server"]>["backup"]>;

const section = "server.backup";
const defaultIntervalMs = 24 * 3_600_000;
const defaultKept = 7;

/** @throws SpireError for the first thing that doesn't hold. */
export function readBackup(raw: RawBackup, origin: Origin, checks: Checks): BackupConfig {
  const { directory, interval, keep = defaultKept, with_keys: withKeys = false } = raw;
  checks.required(directory, `${section}.directory`);
  const failure = `could not parse backup interval ${quote(interval ?? "")}`;
  const seconds = checks.seconds(interval, `${section}.interval`, failure);
  if (!Number.isInteger(keep) || keep < 1) {
    throw origin.problem(
      `keep must be at least 1, not ${keep}`,
      `${section}.keep`,
      "the newest backup always stays",
    );
  }
  return {
    directory: directory ?? "",
    directoryPlace: origin.placeOf(`${section}.directory`),
    intervalMs: seconds === undefined ? defaultIntervalMs : seconds * 1_000,
    keep,
    withKeys,
  };
}

/** @throws SpireError when keys are to be included that are in no file. */
export function requireKeysToBackUp(
  { backup, keyManager, dataStore }: Pick<ServerConfig, "backup" | "keyManager" | "dataStore">,
  { problem }: Origin,
): void {
  if (!backup) return;
  if (dataStore.path === ":memory:") {
    const remedy = "name a file in the datastore's connection_string, or remove the section";
    throw problem("backup: the datastore is in memory, and has nothing to back up", section, remedy);
  }
  if (!backup.withKeys || keyManager.type === "disk") return;
  const remedy = 'configure KeyManager "disk", or set it to false';
  throw problem("with_keys needs keys in a file", `${section}.with_keys`, remedy);
}
