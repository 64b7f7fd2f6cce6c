/** Whether a server could start here: ports, socket, directories, keys and database, looked at before anything is written. */
import { createServer } from "node:net";
import { dirname, resolve } from "node:path";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { requireOwnDatabase } from "../../plugins/datastores/sqlite/inspect.ts";
import { checkSocketPlace } from "../../rpc/unix-socket.ts";
import { checkBackupDirectory } from "../../server/backup/directory.ts";
import { checkDataDir } from "../../server/data-dir.ts";
import { openKeyManager } from "./plugins.ts";
import type { ServerSettings } from "./settings.ts";

/**
 * Says of the first thing that is in the way what and where it is, and how to mend it.
 * @throws SpireError FAILED_PRECONDITION, or UNAVAILABLE for an address that can't be listened at.
 */
export async function checkSurroundings(settings: ServerSettings, log: Logger): Promise<void> {
  checkDataDir(settings, log);
  if (settings.backup) checkBackupDirectory(settings.backup.directory, settings.backup.directoryPlace);
  const socketRights = await checkSocketPlace(settings.socketPath);
  if (socketRights !== undefined) warnOfOpenDirectory(settings.socketPath, socketRights, log);
  for (const address of addressesOf(settings)) await tryToListen(address);
  await openKeyManager(settings).list();
  requireOwnDatabase(settings.dataStore.path, settings.dataDir);
}

const writableByEverybody = 0o002;
const sticky = 0o1000;

/** Where everybody may remove names, everybody can put a socket of their own in the place of this one. */
function warnOfOpenDirectory(socketPath: string, mode: number, log: Logger): void {
  if ((mode & writableByEverybody) === 0 || (mode & sticky) !== 0) return;
  const directory = dirname(resolve(socketPath));
  log.warn("Everybody may replace the socket: its directory is writable by all", {
    dir: directory,
    remedy: `run chmod o-w "${directory}"`,
  });
}

interface Address {
  /** Of the configuration. */
  readonly option: string;
  readonly host: string;
  readonly port: number;
}

function addressesOf({ bindAddress, bindPort, federation, telemetry }: ServerSettings): readonly Address[] {
  const endpoint = federation?.bundleEndpoint;
  const prometheus = telemetry?.prometheus;
  return [
    { option: "server.bind_port", host: bindAddress, port: bindPort },
    ...(endpoint
      ? [{ option: "server.federation.bundle_endpoint.port", host: endpoint.address, port: endpoint.port }]
      : []),
    ...(prometheus ? [{ option: "telemetry.Prometheus.port", ...prometheus }] : []),
  ];
}

/** Error code of the system > how to mend it. */
const remedies: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens there; stop it, or choose another port",
  EADDRNOTAVAIL: "no interface of this machine has that address; choose another one",
  EACCES: "a port below 1024 needs the capability CAP_NET_BIND_SERVICE; grant it, or choose another port",
};

/** Whether a port is free shows only when it is taken. */
function tryToListen({ option, host, port }: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", (cause) => {
      const at = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
      const code: unknown = Reflect.get(cause, "code");
      const remedy = typeof code === "string" ? remedies[code] : undefined;
      const message = `could not listen at ${at} (${option}): ${remedy ?? cause.message}`;
      reject(new SpireError("UNAVAILABLE", message, { cause }));
    });
    probe.listen({ host, port }, () => probe.close(() => resolve()));
  });
}
