/** The commands of docs/backup.md, one after the other as they stand there, on a server of their own. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { program } from "../dev/program.ts";
import { createToken, createWorld, grant, type ServerProcess, stop, type World } from "../faults/world.ts";
import { goldenKeys, makeStockDatabase } from "./stock-database.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/backup.md"), "utf8");
const blocks = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, text = ""]) => text);

const ran = new Set<string>();

let world: World;
let server: ServerProcess;
beforeAll(() => {
  world = createWorld();
});
afterAll(() => world.close());

const path = (name: string) => world.path(name);

/** Runs a block with the folders of the page below this test's own. */
async function runBlock(text: string): Promise<string> {
  const script = text
    .replaceAll("/var/backups/spire", path("backups"))
    .replaceAll("/opt/spire/data", path("stock"))
    .replaceAll("server.conf", path("server.conf"));
  const running = world.run(["sh", "-e", "-c", script], {
    PATH: `${path("bin")}:${process.env["PATH"]}`,
    SPIRE_SERVER_PRIVATE_SOCKET: path("api.sock"),
  });
  const [code, out, err] = await Promise.all([running.ended, running.out.all(), running.err.all()]);
  expect({
    script,
    code,
    err: err.replace(/^Error: .*healthcheck.*\n|^Server is unhealthy.*\n/gm, ""),
  }).toMatchObject({ code: 0 });
  return out;
}

/** The block of the page that holds a text. */
function blockWith(text: string): string {
  const found = blocks.filter((block) => block.includes(text));
  expect(found.length).toBeGreaterThan(0);
  const [block = ""] = found;
  ran.add(block);
  return block;
}

const configuration = (data: string, extra = "") => `server {
  trust_domain = "example.org"
  data_dir = "${data}"
  bind_address = "127.0.0.1"
  bind_port = 0
  socket_path = "${path("api.sock")}"
  ${extra}
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = "${data}/datastore.sqlite3" } }
  KeyManager "disk" { plugin_data { keys_path = "${data}/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
`;

async function startServer(): Promise<ServerProcess> {
  const socket = path("api.sock");
  const running = world.spire("server", "run", "-config", path("server.conf"));
  await running.out.next((line) => line.includes("Starting Server APIs") && line.includes("127.0.0.1"));
  return { ...running, dataDir: path("data"), socket, ready: async () => 0 };
}

test("backups are made while the server runs, and say what they hold", async () => {
  for (const name of ["bin", "backups", "stock"]) mkdirSync(path(name));
  for (const name of ["spire", "spire-server"]) {
    const words = name === "spire" ? program : [...program, "server"];
    writeFileSync(path(`bin/${name}`), `#!/bin/sh\nexec ${words.join(" ")} "$@"\n`);
    chmodSync(path(`bin/${name}`), 0o755);
  }
  writeFileSync(path("server.conf"), configuration(path("data")));
  server = await startServer();
  const local = world.dial(server.socket);
  await grant(local, "/spire/agent/x", "/kept");
  await createToken(local);

  expect(await runBlock(blockWith("monday.backup -config server.conf\n"))).toContain("Backup written to");
  expect(await runBlock(blockWith("-with-keys.backup -withKeys"))).toContain("CA keys          : included");
  const [form = "", manifest = ""] = (await runBlock(blockWith("head -n 2"))).split("\n");
  expect(form).toBe("SPIRE-BACKUP 1");
  expect(JSON.parse(manifest)).toMatchObject({
    trust_domain: "example.org",
    holds_ca_keys: false,
    entries: 1,
  });
  expect(statSync(path("backups/monday.backup")).mode & 0o777).toBe(0o600);
  await grant(local, "/spire/agent/x", "/newer");
  await stop(server);
});

test("a restore tells what it undoes, does it, and keeps the bans", async () => {
  expect(await runBlock(blockWith("-dryRun\n"))).toMatch(
    /Would restore [\s\S]*Entries that go: 1 item\n.*\/newer/,
  );
  const restored = await runBlock(
    blockWith("restore /var/backups/spire/monday.backup -config server.conf\n"),
  );
  expect(restored).toContain("Join tokens voided: 1");
  expect(restored).toContain("Authorities: as they are now.");
  await runBlock(blockWith("-keepBans undone.json"));
  expect(await runBlock(blockWith("-with-keys.backup -config server.conf -withKeys"))).toContain(
    "Authorities: those of the backup. The key file is the backup's.",
  );
  server = await startServer();
  expect(await runBlock("spire server entry count")).toBe("1 registration entry\n");
  await stop(server);
});

test("the schedule of the page makes backups that a restore takes", async () => {
  const [, section = ""] = /(backup \{[\s\S]*?\n {4}\})\n/.exec(page) ?? [];
  const directory = path("scheduled");
  writeFileSync(
    path("server.conf"),
    configuration(path("data"), section.replace("/var/backups/spire", directory)),
  );
  server = await startServer();
  const line = await server.out.next((text) => text.includes("Backup made and proven"));
  expect(line).toContain("holds_ca_keys=false");
  await stop(server);
  const [name = ""] = readdirSync(directory);
  expect(name).toMatch(/^example\.org-\d{8}T\d{6}Z\.backup$/);
  await runBlock(`spire server restore ${join(directory, name)} -config server.conf -dryRun`);
});

test("a stock server's data are taken over", async () => {
  makeStockDatabase(path("stock/datastore.sqlite3"));
  copyFileSync(goldenKeys, path("stock/keys.json"));
  writeFileSync(path("server.conf"), configuration(path("imported")));
  const out = await runBlock(blockWith("import -fromSpire"));
  expect(out).toContain("Would take over from SPIRE 1.16.0-dev-unk, schema version 25");
  expect(out).toContain("Took over from SPIRE 1.16.0-dev-unk, schema version 25");
  expect(existsSync(join(dirname(path("x")), "imported/keys.json"))).toBe(true);
});

test("the page's message is the program's", async () => {
  const [, message = ""] = /```\n(datastore .*)\n```/.exec(page) ?? [];
  const data = path("damaged");
  mkdirSync(data);
  writeFileSync(
    join(data, "datastore.sqlite3"),
    Buffer.concat([readFileSync(path("data/datastore.sqlite3")).subarray(0, 9_000)]),
  );
  writeFileSync(path("server.conf"), configuration(data));
  const running = world.spire("server", "run", "-config", path("server.conf"));
  expect(await running.ended).toBe(1);
  const log = (await running.out.all()).replaceAll("\\", "").replaceAll(data, "/opt/spire/data");
  expect(log).toContain(message);
});

test("no command of the page was left out", () => {
  expect(blocks.filter((block) => !ran.has(block))).toEqual([]);
});
