/** The log of a server that runs as a process of its own, from its start to its end. */
import { join } from "node:path";
import { temporaryFolder } from "../interop/folders.ts";
import type { LogLine } from "./running.ts";

const main = join(import.meta.dir, "../../src/main.ts");

/** Lifetimes are the ones of the recorded run: too long for their authority. */
const configuration = `server {
  trust_domain = "example.org"
  data_dir = "data"
  bind_address = "127.0.0.1"
  bind_port = 0
  socket_path = "api.sock"
  log_format = "json"
  log_level = "debug"
  ca_ttl = "3m"
  agent_ttl = "1m"
  default_x509_svid_ttl = "1m"
  default_jwt_svid_ttl = "1m"
  federation {
    bundle_endpoint {
      address = "127.0.0.1"
      port = 0
    }
  }
}
plugins {
  DataStore "sql" { plugin_data {
    database_type = "sqlite3"
    connection_string = "data/db.sqlite3"
  } }
  KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
telemetry { Prometheus { host = "127.0.0.1" port = 0 } }
health_checks { listener_enabled = true bind_address = "127.0.0.1" bind_port = "0" }
`;

/** Runs until the log says that the server serves, then ends it as a service manager does. */
export async function loggedRun(): Promise<readonly LogLine[]> {
  await using folder = await temporaryFolder();
  await Bun.write(join(folder.path, "s.conf"), configuration);
  // Bun's umask is the caller's; a permissive one is what the program is to warn of.
  const command = ["sh", "-c", 'umask 022; exec "$@"', "sh", process.execPath, main];
  const child = Bun.spawn([...command, "server", "run", "-config", "s.conf"], {
    cwd: folder.path,
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  let isAsked = false;
  for await (const bytes of child.stdout) {
    text += Buffer.from(bytes).toString();
    if (isAsked || !text.includes("Starting Server APIs")) continue;
    isAsked = true;
    child.kill("SIGTERM");
  }
  await child.exited;
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}
