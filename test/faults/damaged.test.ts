/** Files that are damaged or can't be used: one error that names what, where and what to do, exit code 1, nothing changed. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Running } from "../dev/program.ts";
import {
  agentPathOf,
  createToken,
  createWorld,
  firstUpdate,
  grant,
  pathsOf,
  type ServerProcess,
  stop,
  type World,
} from "./world.ts";

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

/** Rights mean nothing to root, so what is about them runs as somebody else then. */
const nobody = 65_534;
const isRoot = process.getuid?.() === 0;
const asNobody = isRoot ? ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"] : [];

/** Gives a folder, and the one it lies in, to who runs what is started with `asNobody`. */
function giveAway(folder: string): void {
  if (!isRoot) return;
  chmodSync(world.directory, 0o755);
  for (const name of ["", ...readdirSync(folder).map(String)]) chownSync(join(folder, name), nobody, nobody);
}

/** Names and contents of a folder's files. */
const contentOf = (folder: string) =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort()
    .map((name) => [name, readFileSync(join(folder, name)).toString("base64")]);

/** The program ends with 1 and one line that fits. */
async function expectRefusal(running: Running, reason: RegExp): Promise<void> {
  const [code, out, err] = await Promise.all([running.ended, running.out.all(), running.err.all()]);
  const errors = out.split("\n").filter((line) => line.includes("level=error"));
  expect({ code, count: errors.length, err }).toEqual({ code: 1, count: 1, err: "" });
  expect(errors[0]?.replaceAll("\\", "")).toMatch(reason);
}

const cut = (path: string, length: number) => writeFileSync(path, readFileSync(path).subarray(0, length));
const replaceByFolder = (path: string) => {
  rmSync(path);
  mkdirSync(path);
};

interface Damage {
  readonly what: string;
  /** Name of the file that is done to. */
  readonly file: string;
  readonly done: (path: string) => void;
  readonly reason: RegExp;
}

const damagedKeys: readonly Damage[] = [
  {
    what: "truncated",
    file: "keys.json",
    done: (path) => cut(path, 100),
    reason: /key file ".*keys\.json" is damaged: it is not complete JSON; restore it/,
  },
  {
    what: "empty",
    file: "keys.json",
    done: (path) => cut(path, 0),
    reason: /key file ".*keys\.json" is damaged: it is not complete JSON; restore it/,
  },
  {
    what: "no object",
    file: "keys.json",
    done: (path) => writeFileSync(path, "[]"),
    reason: /key file ".*keys\.json" is damaged: it has no "keys" object; restore it/,
  },
  {
    what: "without a key in its place",
    file: "keys.json",
    done: (path) => writeFileSync(path, '{"keys":{"x509-CA-A":"AAAA","agent-svid-A":"AAAA"}}'),
    reason: /key file ".*keys\.json" is damaged: key ".*" is not a private key in PKCS #8 form; restore it/,
  },
  {
    what: "a directory",
    file: "keys.json",
    done: replaceByFolder,
    reason: /key file ".*keys\.json" can't be read: EISDIR.*; move the directory away/,
  },
  {
    what: "unreadable",
    file: "keys.json",
    done: (path) => chmodSync(path, 0),
    reason: /key file ".*keys\.json" can't be read: EACCES.*; give the user who runs this the right/,
  },
];

describe("a server", () => {
  const database = "datastore.sqlite3";
  /** Page size of the database. */
  const pageSize = 4_096;

  const cases: readonly Damage[] = [
    ...damagedKeys,
    {
      what: "garbage",
      file: database,
      done: (path) => writeFileSync(path, randomBytes(50_000)),
      reason: /datastore .*datastore\.sqlite3: file is not a database; restore it from a backup/,
    },
    {
      what: "text",
      file: database,
      done: (path) => writeFileSync(path, "hello\n"),
      reason: /datastore .*datastore\.sqlite3: file is not a database; restore it from a backup/,
    },
    {
      what: "truncated",
      file: database,
      done: (path) => cut(path, 2 * pageSize + 100),
      reason: /datastore .*datastore\.sqlite3: database disk image is malformed; restore it from a backup/,
    },
    {
      what: "overwritten in the middle",
      file: database,
      done: (path) => {
        const bytes = readFileSync(path);
        randomBytes(bytes.length - 3 * pageSize).copy(bytes, 3 * pageSize);
        writeFileSync(path, bytes);
      },
      reason: /datastore .*datastore\.sqlite3: database disk image is malformed; restore it from a backup/,
    },
    {
      what: "changed in one byte",
      file: database,
      done: (path) => {
        const bytes = readFileSync(path);
        const at = bytes.indexOf('"x509_authorities"') + 40;
        bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
        writeFileSync(path, bytes);
      },
      reason: /datastore .*datastore\.sqlite3 is not as the server left it.* "spire server restore FILE"/,
    },
    {
      what: "a directory",
      file: database,
      done: replaceByFolder,
      reason: /datastore .*datastore\.sqlite3: EISDIR.*; move the directory away/,
    },
    {
      what: "unreadable",
      file: database,
      done: (path) => chmodSync(path, 0),
      reason: /datastore .*datastore\.sqlite3.*: EACCES.*; give the user who runs this the right/,
    },
  ];

  /** A server that has run once and was stopped. */
  async function startOnce(): Promise<ServerProcess> {
    const server = world.server("data/server");
    await server.ready();
    await stop(server);
    return server;
  }

  test.each(cases)("whose $file is $what", async ({ file, done, reason }) => {
    const { dataDir } = await startOnce();
    const whole = world.path("whole");
    cpSync(dataDir, whole, { recursive: true });
    done(join(dataDir, file));
    giveAway(dataDir);
    const before = isRoot ? contentOf(dataDir) : [];
    giveAway(world.path("data"));
    await expectRefusal(world.server("data/server", { wrap: asNobody }), reason);
    if (isRoot) expect(contentOf(dataDir)).toEqual(before);

    // The backup is all that it takes.
    rmSync(dataDir, { recursive: true });
    cpSync(whole, dataDir, { recursive: true });
    const restored = world.server("data/server");
    await restored.ready();
    await stop(restored);
  });

  test("whose data directory is read-only, before and after its first start", async () => {
    mkdirSync(world.path("data/server"), { recursive: true });
    giveAway(world.path("data/server"));
    giveAway(world.path("data"));
    chmodSync(world.path("data/server"), 0o500);
    await expectRefusal(
      world.server("data/server", { wrap: asNobody }),
      /data directory ".*server" can't be used: EACCES.*; give the user who runs this the right/,
    );
    await expectRefusal(
      world.server("data/server/below", { wrap: asNobody }),
      /data directory ".*below" can't be made: EACCES.*; give the user who runs this the right/,
    );
    chmodSync(world.path("data/server"), 0o700);
    const server = world.server("data/server", { wrap: asNobody });
    await server.ready();
    await stop(server);
    chmodSync(server.dataDir, 0o500);
    await expectRefusal(
      world.server("data/server", { wrap: asNobody }),
      /data directory ".*server" can't be used: EACCES.*; give the user who runs this the right/,
    );
    chmodSync(server.dataDir, 0o700);
  });

  test("whose data directory is a file", async () => {
    writeFileSync(world.path("server"), "");
    await expectRefusal(
      world.server(),
      /data directory ".*server" is not a directory; remove it, or choose another data_dir/,
    );
  });
});

describe("an agent", () => {
  let port: number;
  let server: ServerProcess;
  let token: string;
  let bundle: string;

  beforeEach(async () => {
    server = world.server("data/server");
    port = await server.ready();
    bundle = world.path("bundle.pem");
    const shown = world.spire("server", "bundle", "show", "-socketPath", server.socket);
    await Bun.write(bundle, await shown.out.all());
    const local = world.dial(server.socket);
    token = await createToken(local);
    await grant(local, agentPathOf(token), "/web");
  });

  const dataDir = () => world.path("data/agent");
  const launch = () => ({ port, bundle, dataDir: dataDir() });

  const damagedData =
    /agent data file ".*agent-data\.json" is damaged; restore it, or remove it to attest anew: /;
  const cases: readonly Damage[] = [
    ...damagedKeys,
    {
      what: "truncated",
      file: "agent-data.json",
      done: (path) => cut(path, 100),
      reason: damagedData,
    },
    { what: "empty", file: "agent-data.json", done: (path) => cut(path, 0), reason: damagedData },
    {
      what: "without certificates in their place",
      file: "agent-data.json",
      done: (path) => writeFileSync(path, readFileSync(path, "utf8").replace("LS0t", "AAAA")),
      reason: damagedData,
    },
    {
      what: "a directory",
      file: "agent-data.json",
      done: replaceByFolder,
      reason: /agent data file ".*agent-data\.json" can't be read: EISDIR.*; move the directory away/,
    },
    {
      what: "unreadable",
      file: "agent-data.json",
      done: (path) => chmodSync(path, 0),
      reason: /agent data file ".*agent-data\.json" can't be read: EACCES.*; give the user who runs this/,
    },
  ];

  test.each(cases)("whose $file is $what", async ({ file, done, reason }) => {
    const first = world.agent({ ...launch(), token });
    await firstUpdate(world, first);
    await stop(first);
    const whole = world.path("whole");
    cpSync(dataDir(), whole, { recursive: true });
    done(join(dataDir(), file));
    giveAway(dataDir());
    const before = isRoot ? contentOf(dataDir()) : [];
    giveAway(world.path("data"));
    await expectRefusal(world.agent({ ...launch(), wrap: asNobody }), reason);
    if (isRoot) expect(contentOf(dataDir())).toEqual(before);

    rmSync(dataDir(), { recursive: true });
    cpSync(whole, dataDir(), { recursive: true });
    const restored = world.agent(launch());
    expect(pathsOf(await firstUpdate(world, restored))).toEqual(["/web"]);
    await stop(restored);
    await stop(server);
  });

  test("whose data directory is read-only leaves its token unused", async () => {
    mkdirSync(dataDir());
    giveAway(dataDir());
    giveAway(world.path("data"));
    chmodSync(dataDir(), 0o500);
    await expectRefusal(
      world.agent({ ...launch(), token, wrap: asNobody }),
      /key file ".*keys\.json" can't be written: EACCES.*; give the user who runs this the right/,
    );
    chmodSync(dataDir(), 0o700);
    const agent = world.agent({ ...launch(), token, wrap: asNobody });
    expect(pathsOf(await firstUpdate(world, agent))).toEqual(["/web"]);
    await stop(agent);
    await stop(server);
  });
});

describe("a development instance", () => {
  const cases: readonly Damage[] = [
    {
      what: "truncated",
      file: "dev.json",
      done: (path) => cut(path, 20),
      reason: /state directory .* holds a damaged dev\.json; remove the directory/,
    },
    {
      what: "truncated",
      file: "keys.json",
      done: (path) => cut(path, 20),
      reason: /keys\.json" is damaged: .*restore it/,
    },
    {
      what: "truncated",
      file: "agent/keys.json",
      done: (path) => cut(path, 20),
      reason: /agent\/keys\.json" is damaged: .*restore it/,
    },
    {
      what: "truncated",
      file: "agent/agent-data.json",
      done: (path) => cut(path, 20),
      reason: /agent-data\.json" is damaged; restore it, or remove it/,
    },
    {
      what: "garbage",
      file: "datastore.sqlite3",
      done: (path) => writeFileSync(path, randomBytes(50_000)),
      reason: /datastore\.sqlite3: file is not a database; restore it/,
    },
  ];

  test.each(cases)("whose $file is $what", async ({ file, done, reason }) => {
    const first = await world.dev(["--data-dir", "state"]);
    await stop(first.running);
    done(join(world.path("state"), file));
    const refused = world.spire("dev", "--data-dir", "state");
    const [code, out, err] = await Promise.all([refused.ended, refused.out.all(), refused.err.all()]);
    expect({ code, out, lines: err.trimEnd().split("\n").length }).toEqual({ code: 1, out: "", lines: 1 });
    expect(err).toMatch(reason);
  });
});
