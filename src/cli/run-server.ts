/** `spire server run`: the flags that a server is started with. */
import { SpireError } from "../core/errors.ts";
import type { TrustDomain } from "../core/spiffe-id.ts";
import { type Command, command } from "./command.ts";
import { boolFlag, intFlag, stringFlag } from "./flags.ts";
import {
  checkPort,
  type LogSettings,
  logFlags,
  readLogSettings,
  readTrustDomain,
  refuseFlags,
  required,
} from "./run.ts";

export interface ServerRun {
  readonly trustDomain: TrustDomain;
  readonly bindAddress: string;
  readonly bindPort: number;
  readonly socketPath: string;
  readonly dataDir: string;
  readonly log: LogSettings;
}

/** Runs a server until `stop` resolves. @returns the exit code. @throws SpireError before anything has started. */
export type ServeServer = (run: ServerRun, stop: Promise<void>) => Promise<number>;

export const runServer = (serve: ServeServer): Command =>
  command({
    name: "run",
    summary: "Runs the server",
    example: "run -trustDomain example.org -dataDir ./data/server",
    errorPrefix: "",
    flags: {
      ...logFlags,
      bindAddress: stringFlag("IP address or DNS name of the SPIRE server", "0.0.0.0"),
      serverPort: intFlag("Port number of the SPIRE server", 8081),
      socketPath: stringFlag(
        "Path to bind the SPIRE Server API socket to",
        "/tmp/spire-server/private/api.sock",
      ),
      dataDir: stringFlag("Directory to store runtime data to"),
      trustDomain: stringFlag("The trust domain that this server belongs to"),
      config: stringFlag("Path to a SPIRE config file"),
      expandEnv: boolFlag("Expand environment variables in SPIRE config file"),
    },
    run: async ({ flags, given, terminal }) => {
      refuseFlags(given, ["config", "expandEnv", "logSourceLocation"]);
      const run: ServerRun = {
        trustDomain: readTrustDomain(flags.trustDomain),
        bindAddress: flags.bindAddress,
        bindPort: checkPort(flags.serverPort, "bind_port", 0),
        socketPath: required(flags.socketPath, "socket_path"),
        dataDir: required(flags.dataDir, "data_dir"),
        log: readLogSettings(flags),
      };
      if (run.bindAddress === "") throw new SpireError("INVALID_ARGUMENT", "bind_address must be configured");
      return serve(run, terminal.untilStopped());
    },
  });
