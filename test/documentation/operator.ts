/** A machine as an operator knows it: spire as a service that systemctl starts and stops, and a shell to type into. */
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createSandbox, program } from "../dev/program.ts";

export interface Operator {
  /** Types the lines into a shell that ends at the first command that fails. @returns all that it printed. @throws Error. */
  type(lines: string): Promise<string>;
  close(): Promise<void>;
}

/**
 * Starts and stops the server and the agents that the unit files of docs/systemd.md run, and waits as systemd does: until
 * a service is ready, until it has ended.
 */
const systemctl = `#!/bin/bash
set -eu
verb=$1; shift
for unit in "$@"; do
  unit=\${unit%.service}
  pid=run/$unit.pid
  stop() { if [ -e $pid ]; then kill -TERM $(cat $pid) || true; tail --pid=$(cat $pid) -f /dev/null; rm $pid; fi; }
  start() {
    case $unit in
      spire-server) spire-server run -config server.conf >>run/$unit.log 2>&1 & ;;
      spire-agent*) spire-agent run -config \${unit#spire-}.conf >>run/$unit.log 2>&1 & ;;
    esac
    echo $! >$pid
    while ! probe; do kill -0 $(cat $pid) || { tail -3 run/$unit.log >&2; exit 1; }; sleep 0.1; done
  }
  probe() {
    case $unit in
      spire-server) spire-server healthcheck -shallow >/dev/null 2>&1 ;;
      *) spire-agent healthcheck -socketPath run/\${unit#spire-}.sock -shallow >/dev/null 2>&1 ;;
    esac
  }
  case $verb in
    stop) stop ;;
    start) start ;;
    restart) stop; start ;;
  esac
done
`;

const serverConfiguration = `server {
  bind_address = "127.0.0.1"
  bind_port = PORT
  socket_path = "run/server.sock"
  trust_domain = "example.org"
  data_dir = "data"
}
plugins {
  DataStore "sql" {
    plugin_data {
      database_type = "sqlite3"
      connection_string = "data/datastore.sqlite3"
    }
  }
  KeyManager "disk" {
    plugin_data { keys_path = "data/keys.json" }
  }
  NodeAttestor "join_token" {
    plugin_data {}
  }
}
`;

const agentConfiguration = (name: string, serverPort: number, token: string) => `agent {
  trust_domain = "example.org"
  server_address = "127.0.0.1"
  server_port = ${serverPort}
  socket_path = "run/${name}.sock"
  data_dir = "data-${name}"
  trust_bundle_path = "bundle.pem"
  join_token = "${token}"
}
plugins {
  KeyManager "disk" {
    plugin_data { directory = "data-${name}" }
  }
  NodeAttestor "join_token" {
    plugin_data {}
  }
  WorkloadAttestor "unix" {
    plugin_data {}
  }
}
`;

/** Starts a server with two agents, `spire-agent-a` and `spire-agent-b`; their files are in the working directory. */
export async function createOperator(): Promise<Operator> {
  const sandbox = createSandbox();
  const { directory } = sandbox;
  const bin = join(directory, "bin");
  for (const name of ["bin", "run"]) mkdirSync(join(directory, name), { mode: 0o700 });
  writeFileSync(join(bin, "systemctl"), systemctl);
  chmodSync(join(bin, "systemctl"), 0o755);
  for (const name of ["spire", "spire-server", "spire-agent"]) linkProgram(join(bin, name), name);
  const port = await freePort();
  writeFileSync(join(directory, "server.conf"), serverConfiguration.replace("PORT", String(port)));
  const env = {
    PATH: `${bin}:${process.env["PATH"] ?? ""}`,
    SPIRE_SERVER_PRIVATE_SOCKET: "run/server.sock",
  };
  const type = async (lines: string) => {
    const shell = sandbox.start(["bash", "-euo", "pipefail", "-c", `exec 2>&1\n${lines}`], env);
    const printed = await shell.out.all();
    const ended = await shell.ended;
    if (ended !== 0) throw new Error(`${lines}\nended with ${ended}:\n${printed}`);
    return printed;
  };
  await type("systemctl start spire-server && spire server bundle show >bundle.pem");
  for (const name of ["agent-a", "agent-b"]) {
    const id = `spiffe://example.org/${name}`;
    const [, token = ""] =
      /Token: (\S+)/.exec(await type(`spire server token generate -spiffeID ${id}`)) ?? [];
    writeFileSync(join(directory, `${name}.conf`), agentConfiguration(name, port, token));
    const entry = `-parentID ${id} -spiffeID ${id}/web -selector unix:uid:${process.getuid?.()}`;
    await type(`spire server entry create ${entry} && systemctl start spire-${name}`);
  }
  return {
    type,
    async close() {
      await type("systemctl stop spire-agent-a spire-agent-b spire-server");
      await sandbox.close();
    },
  };
}

function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const address = probe.address();
    probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
  });
  return promise;
}

/** A link to the executable, or a script that runs the sources by that name. */
function linkProgram(path: string, name: string): void {
  const [executable = "", ...source] = program;
  if (source.length === 0) {
    symlinkSync(executable, path);
    return;
  }
  const own = name === "spire" ? "" : name.replace("spire-", "");
  writeFileSync(path, `#!/bin/sh\nexec ${program.join(" ")} ${own} "$@"\n`);
  chmodSync(path, 0o755);
}
