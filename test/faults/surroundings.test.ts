/** Machines on which a server can't start: one line that says what, where and how to mend it, and nothing is touched. */

import { Database } from "bun:sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { createSandbox, finish, program, type Running, type Sandbox } from "../dev/program.ts";

/** Root may do everything, so that who runs the server here is somebody else. */
const nobody = 65_533;
const asNobody =
  process.getuid?.() === 0
    ? ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups", "--inh-caps=-all"]
    : [];

let template: Sandbox;
let sandbox: Sandbox;
let taken: Server;
let port: number;
const running: Running[] = [];

const path = (name: string) => join(sandbox.directory, name);

interface Options {
  readonly trustDomain?: string;
  /** Of the section `server`, instead of the good ones. */
  readonly options?: Readonly<Record<string, string>>;
  readonly sections?: string;
  readonly database?: string;
}

function configuration({
  trustDomain = "example.org",
  options = {},
  sections = "",
  database,
}: Options): string {
  const all: Record<string, string> = {
    trust_domain: `"${trustDomain}"`,
    data_dir: '"data"',
    bind_address: '"127.0.0.1"',
    bind_port: "0",
    socket_path: '"api.sock"',
    ...options,
  };
  return `server {
${Object.entries(all)
  .map(([name, value]) => `  ${name} = ${value}`)
  .join("\n")}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "${database ?? "data/db.sqlite3"}" } }
  KeyManager "disk" { plugin_data { keys_path = "data/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
${sections}`;
}

function start(where: Sandbox, options: Options = {}): Running {
  writeFileSync(join(where.directory, "server.conf"), configuration(options));
  give(where.directory);
  const server = where.start([...asNobody, ...program, "server", "run", "-config", "server.conf"]);
  running.push(server);
  return server;
}

/** Lets the user who runs the server have everything. */
function give(folder: string): void {
  if (asNobody.length === 0) return;
  chownSync(folder, nobody, nobody);
  for (const name of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    chownSync(join(name.parentPath, name.name), nobody, nobody);
  }
}

const started = (server: Running) =>
  server.out.next((line) => line.includes('Starting Server APIs" address="127'));

/** Every name with its rights and content. */
function look(): readonly string[] {
  return readdirSync(sandbox.directory, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const at = join(entry.parentPath, entry.name);
      const content = entry.isFile() ? Bun.hash(readFileSync(at)) : "";
      return `${at} ${statSync(at).mode.toString(8)} ${content}`;
    })
    .sort();
}

beforeAll(async () => {
  template = createSandbox();
  const server = start(template);
  await started(server);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
  taken = createServer();
  port = await new Promise<number>((resolve) =>
    taken.listen(0, "127.0.0.1", () => {
      const address = taken.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    }),
  );
});
afterAll(async () => {
  taken.close();
  await template.close();
});
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(async () => {
  for (const { kill } of running.splice(0)) kill("SIGKILL");
  await sandbox.close();
});

/** What a server left that ran before. */
const oldState = () => cpSync(join(template.directory, "data"), path("data"), { recursive: true });

interface Obstacle {
  readonly name: string;
  readonly prepare?: () => void | Promise<void>;
  readonly options?: () => Options;
  readonly says: () => readonly string[];
}

const taking = (what: string, section: (port: number) => Options, option: string): Obstacle => ({
  name: `${what} is taken`,
  options: () => section(port),
  says: () => [`could not listen at 127.0.0.1:${port}`, option, /health/.test(option) ? "in use" : "stop it"],
});

const obstacles: readonly Obstacle[] = [
  taking("the API's port", (taken) => ({ options: { bind_port: String(taken) } }), "server.bind_port"),
  taking(
    "the health port",
    (taken) => ({
      sections: `health_checks { listener_enabled = true bind_address = "127.0.0.1" bind_port = "${taken}" }`,
    }),
    "health_checks.bind_port",
  ),
  taking(
    "the port for Prometheus",
    (taken) => ({ sections: `telemetry { Prometheus { host = "127.0.0.1" port = ${taken} } }` }),
    "telemetry.Prometheus.port",
  ),
  taking(
    "the bundle endpoint's port",
    (taken) => ({
      options: {
        federation: `{ bundle_endpoint { address = "127.0.0.1" port = ${taken} profile "https_spiffe" {} } }`,
      },
    }),
    "server.federation.bundle_endpoint.port",
  ),
  {
    name: "the address is another machine's",
    options: () => ({ options: { bind_address: '"192.0.2.1"', bind_port: "8081" } }),
    says: () => ["192.0.2.1:8081", "server.bind_port", "no interface of this machine has that address"],
  },
  {
    name: "the address can't be resolved",
    options: () => ({ options: { bind_address: '"no such host"' } }),
    says: () => ["could not resolve bind address", "server.conf:", "write an IP address of this machine"],
  },
  {
    name: "another server serves the socket",
    prepare: async () => {
      await started(start(sandbox));
    },
    options: () => ({ options: { data_dir: '"other"' }, database: "other.sqlite3" }),
    says: () => ['socket "api.sock" is in use by another process', "stop that one"],
  },
  {
    name: "something else has the socket's path",
    prepare: () => writeFileSync(path("api.sock"), ""),
    says: () => ['"api.sock" exists and is not a socket', "remove it"],
  },
  {
    name: "the keys can't be read",
    prepare: () => {
      oldState();
      chmodSync(path("data/keys.json"), 0o000);
    },
    says: () => ['key file "data/keys.json" can\'t be read', "give the user who runs this the right"],
  },
  {
    name: "the keys are cut off",
    prepare: () => {
      oldState();
      truncateSync(path("data/keys.json"), 100);
    },
    says: () => ['key file "data/keys.json" is damaged', "restore it"],
  },
  {
    name: "everybody may read the keys",
    prepare: () => {
      oldState();
      chmodSync(path("data/keys.json"), 0o644);
    },
    says: () => ['key file "data/keys.json" has mode 0644', "chmod 600"],
  },
  {
    name: "a directory is where the keys should be",
    prepare: () => mkdirSync(path("data/keys.json"), { recursive: true }),
    says: () => ['key file "data/keys.json" can\'t be read', "move the directory away"],
  },
  {
    name: "everybody may write to the data directory",
    prepare: () => {
      mkdirSync(path("data"));
      chmodSync(path("data"), 0o777);
    },
    says: () => ['data directory "data" has mode 0777', 'chmod 700 "data"'],
  },
  {
    name: "the data directory can't be written to",
    prepare: () => mkdirSync(path("data"), { mode: 0o500 }),
    says: () => ['data directory "data" can\'t be used', "give the user who runs this the right"],
  },
  {
    name: "the data directory is a file",
    prepare: () => writeFileSync(path("data"), ""),
    says: () => ['data directory "data"', "is not a directory"],
  },
  {
    name: "the data directory is a development instance's",
    prepare: () => {
      mkdirSync(path("data"), { mode: 0o700 });
      writeFileSync(path("data/dev.json"), "{}");
    },
    says: () => [
      '"data" is the state of a "spire dev" instance',
      "start the server in a directory of its own",
    ],
  },
  {
    name: "the database belongs to another trust domain",
    prepare: oldState,
    options: () => ({ trustDomain: "other.example" }),
    says: () => ['the database belongs to trust domain "example.org"', '"other.example"'],
  },
  {
    name: "the database is a newer version's",
    prepare: () => {
      oldState();
      rmSync(path("data/db.sqlite3.sha256"), { force: true });
      const database = new Database(path("data/db.sqlite3"));
      database.run("INSERT INTO schema_versions (version, migrated_at) VALUES (9999, 0)");
      database.close();
    },
    says: () => ["datastore data/db.sqlite3 has schema version 9999", "newer"],
  },
  {
    name: "the database is another program's",
    prepare: () => {
      const database = new Database(path("other.sqlite3"));
      database.run("CREATE TABLE songs (title TEXT)");
      database.close();
    },
    options: () => ({ database: "other.sqlite3" }),
    says: () => ["datastore other.sqlite3 is a database of another program", "connection_string"],
  },
  {
    name: "the database is stock SPIRE's",
    prepare: () => {
      const database = new Database(path("spire.sqlite3"));
      database.run("CREATE TABLE registered_entries (id INTEGER)");
      database.close();
    },
    options: () => ({ database: "spire.sqlite3" }),
    says: () => ["datastore spire.sqlite3 is a database of stock SPIRE", "import --from-spire"],
  },
  {
    name: "the database is none",
    prepare: () => writeFileSync(path("text.sqlite3"), "songs\n".repeat(1_000)),
    options: () => ({ database: "text.sqlite3" }),
    says: () => ["datastore text.sqlite3", "not a database"],
  },
  {
    name: "the database's directory is missing",
    options: () => ({ database: "nowhere/db.sqlite3" }),
    says: () => ["datastore nowhere/db.sqlite3", "make it"],
  },
  {
    name: "the database's directory can't be written to",
    prepare: () => mkdirSync(path("closed"), { mode: 0o500 }),
    options: () => ({ database: "closed/db.sqlite3" }),
    says: () => ["datastore closed/db.sqlite3 can't be opened", "give the user who runs this the right"],
  },
  {
    name: "the database can't be written to",
    prepare: () => {
      oldState();
      chmodSync(path("data/db.sqlite3"), 0o400);
    },
    says: () => ["datastore data/db.sqlite3 can't be opened", "give the user who runs this the right"],
  },
  {
    name: "the log file's directory is missing",
    options: () => ({ options: { log_file: '"logs/server.log"' } }),
    says: () => ["open logs/server.log: no such file or directory", "make its directory"],
  },
  {
    name: "the log file can't be written to",
    prepare: () => writeFileSync(path("server.log"), "", { mode: 0o400 }),
    options: () => ({ options: { log_file: '"server.log"' } }),
    says: () => ["open server.log: permission denied", "give the user who runs this the right"],
  },
  {
    name: "the socket's directory can't be made",
    prepare: () => mkdirSync(path("closed"), { mode: 0o500 }),
    options: () => ({ options: { socket_path: '"closed/private/api.sock"' } }),
    says: () => ['"closed/private/api.sock"', "give the user who runs this the right"],
  },
];

describe("a server doesn't start when", () => {
  test.each(obstacles.map((obstacle) => [obstacle.name, obstacle] as const))("%s", async (_, obstacle) => {
    await obstacle.prepare?.();
    const options = obstacle.options?.() ?? {};
    writeFileSync(path("server.conf"), configuration(options));
    const before = look();
    const { code, out, err } = await finish(start(sandbox, options));
    const message =
      err === "" ? String(JSON.parse(/crashed" error=("(?:\\.|[^"\\])*")\n$/.exec(out)?.[1] ?? '""')) : err;
    for (const part of obstacle.says()) expect(message).toContain(part);
    expect(message.trimEnd().split("\n")).toHaveLength(1);
    expect(code).toBe(1);
    expect(look()).toEqual(before);
  });
});

test("the same state starts where nothing is in the way", async () => {
  oldState();
  const server = start(sandbox);
  await started(server);
  server.kill("SIGTERM");
  expect(await server.ended).toBe(0);
});
