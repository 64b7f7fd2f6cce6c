/** `spire server run` and `validate`: a configuration file, and the flags that beat it. */
import { type Loaded, loadServer } from "../config/server.ts";
import type { ServerConfig } from "../config/server-config.ts";
import { type Command, command, type Invocation } from "./command.ts";
import { intFlag, stringFlag } from "./flags.ts";
import { configFlags, logOptions, pathToRun, sourcesOf } from "./run.ts";
import { printVerdict, reportInvalid } from "./validate.ts";

/** Runs a server until `stop` resolves. @returns the exit code. @throws SpireError before anything has started. */
export type ServeServer = (loaded: Loaded<ServerConfig>, stop: Promise<void>) => Promise<number>;

/** Where a server's configuration is looked for. */
export const usualPath = "conf/server/server.conf";

const flags = {
  ...configFlags,
  bindAddress: stringFlag("IP address or DNS name of the SPIRE server; 0.0.0.0 if not set"),
  serverPort: intFlag("Port number of the SPIRE server; 8081 if not set"),
  socketPath: stringFlag(
    "Path to bind the SPIRE Server API socket to; /tmp/spire-server/private/api.sock if not set",
  ),
  dataDir: stringFlag("Directory to store runtime data to"),
  trustDomain: stringFlag("The trust domain that this server belongs to"),
};

const options = {
  ...logOptions,
  bindAddress: "bind_address",
  serverPort: "bind_port",
  socketPath: "socket_path",
  dataDir: "data_dir",
  trustDomain: "trust_domain",
};

const load = ({ flags: values, given, terminal }: Invocation<typeof flags>, path: string | undefined) =>
  loadServer(sourcesOf({ flags: values, given, environment: terminal.env }, "server", options, path));

export const runServer = (serve: ServeServer): Command =>
  command({
    name: "run",
    summary: "Runs the server",
    example: "run -trustDomain example.org -dataDir ./data/server",
    errorPrefix: "",
    repeatsFlagErrorAfter: "",
    flags,
    run: async (invocation) => {
      const loaded = await load(invocation, pathToRun(invocation.flags.config, usualPath));
      return serve(loaded, invocation.terminal.untilStopped());
    },
  });

export const validateServer: Command = command({
  name: "validate",
  summary: "Validates a SPIRE server configuration file",
  example: "validate -config conf/server/server.conf",
  errorPrefix: "",
  repeatsFlagErrorAfter: "SPIRE server configuration file is invalid: ",
  flags,
  run: async (invocation) => {
    const { terminal } = invocation;
    try {
      return printVerdict("server", await load(invocation, invocation.flags.config || usualPath), terminal);
    } catch (error) {
      return reportInvalid("server", error, terminal);
    }
  },
});
