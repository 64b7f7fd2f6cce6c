/** Directories and files that somebody else has a hand in. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileStateStore } from "../../src/agent/state.ts";
import { systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import { giveToOwnerOf } from "../../src/files/work-directory.ts";
import { checkSurroundings } from "../../src/modes/server/surroundings.ts";
import { startServer } from "../../src/modes/server.ts";
import { createDiskKeyManager } from "../../src/plugins/key-managers/disk.ts";
import { createRecordingLogger } from "../../src/rpc/testing.ts";
import { listenAtPath } from "../../src/rpc/unix-socket.ts";
import { checkDataDir } from "../../src/server/data-dir.ts";
import { testSettings } from "../server/running.ts";

/** Only root can give a file to somebody else. */
const asRoot = process.getuid?.() === 0;
const somebodyElse = 65_533;

let shared: string;
beforeEach(() => {
  shared = mkdtempSync(join(tmpdir(), "spire-places-"));
  // As /tmp is.
  chmodSync(shared, 0o1777);
});
afterEach(() => rmSync(shared, { recursive: true, force: true }));

async function failureOf(work: Promise<unknown>): Promise<SpireError | undefined> {
  return work.then(
    () => undefined,
    (error: unknown) => SpireError.from(error),
  );
}

async function listen(path: string, mode = 0o770): Promise<void> {
  const server = createServer();
  try {
    (await listenAtPath(server, path, { mode }))();
  } finally {
    server.close();
  }
}

describe("a socket", () => {
  test.skipIf(!asRoot)("is not made in a directory that somebody else made in a shared one", async () => {
    mkdirSync(join(shared, "spire-server"));
    mkdirSync(join(shared, "spire-server", "private"));
    lchownSync(join(shared, "spire-server"), somebodyElse, somebodyElse);
    const error = await failureOf(listen(join(shared, "spire-server", "private", "api.sock")));
    expect(error?.code).toBe("FAILED_PRECONDITION");
    expect(error?.message).toContain(join(shared, "spire-server"));
    expect(error?.message).toContain(String(somebodyElse));
  });

  test.skipIf(!asRoot)("is not made behind somebody else's link in a shared directory", async () => {
    const own = join(shared, "own");
    mkdirSync(own);
    symlinkSync(own, join(shared, "link"));
    lchownSync(join(shared, "link"), somebodyElse, somebodyElse);
    expect((await failureOf(listen(join(shared, "link", "api.sock"))))?.code).toBe("FAILED_PRECONDITION");
    expect(existsSync(join(own, "api.sock"))).toBe(false);
  });

  test("is made in an own directory there, in the shared one itself, and behind an own link", async () => {
    mkdirSync(join(shared, "own"));
    symlinkSync(join(shared, "own"), join(shared, "link"));
    for (const directory of [shared, join(shared, "own"), join(shared, "new"), join(shared, "link")]) {
      expect(await failureOf(listen(join(directory, "api.sock")))).toBeUndefined();
    }
  });

  test("never has more rights than it is to have, however lax the umask", async () => {
    const umask = process.umask(0);
    try {
      const path = join(shared, "api.sock");
      const server = createServer();
      const seen: number[] = [];
      const listening = server.listen.bind(server);
      // Right after the system has made it, before anything else runs.
      server.listen = ((temporary: string, done: () => void) => {
        const result = listening(temporary, done);
        seen.push(statSync(temporary).mode & 0o777);
        return result;
      }) as typeof server.listen;
      const remove = await listenAtPath(server, path, { mode: 0o770 });
      expect(seen).toEqual([0o770]);
      expect(statSync(path).mode & 0o777).toBe(0o770);
      expect(process.umask()).toBe(0);
      remove();
      server.close();
    } finally {
      process.umask(umask);
    }
  });
});

test("a development server's socket is its user's alone from the start, wherever it lies", async () => {
  const settings = { ...testSettings(join(shared, "data")), socketPath: join(shared, "dev.sock"), dev: true };
  const server = await startServer(settings, { clock: systemClock, log: nullLogger });
  expect(statSync(server.socketPath).mode & 0o777).toBe(0o600);
  await server.close();
});

describe("a key file", () => {
  const keysOf = (path: string) => createDiskKeyManager({ path }).list();

  async function makeKeys(): Promise<string> {
    const path = join(shared, "keys.json");
    await createDiskKeyManager({ path }).generate("x509-CA-A", "ec-p256");
    return path;
  }

  test("that everybody may read or change is refused, and its keys stay out of the error", async () => {
    const path = await makeKeys();
    for (const mode of [0o604, 0o602, 0o644, 0o666]) {
      chmodSync(path, mode);
      const error = await failureOf(keysOf(path));
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain(`chmod 600`);
      expect(JSON.stringify(error) + error?.stack).not.toContain("MIG");
    }
  });

  test("that a group may read is taken, as volumes of containers have it", async () => {
    const path = await makeKeys();
    for (const mode of [0o600, 0o640, 0o660, 0o400]) {
      chmodSync(path, mode);
      expect((await keysOf(path)).length).toBe(1);
    }
  });
});

test("a socket whose directory everybody may change is served with a warning", async () => {
  const directory = join(shared, "open");
  mkdirSync(directory);
  for (const [mode, warnings] of [
    [0o777, 1],
    [0o1777, 0],
    [0o750, 0],
  ] as const) {
    chmodSync(directory, mode);
    const log = createRecordingLogger();
    const settings = { ...testSettings(join(shared, "data")), socketPath: join(directory, "api.sock") };
    await checkSurroundings(settings, log);
    expect(log.lines.filter(({ remedy }) => remedy === `run chmod o-w "${directory}"`)).toHaveLength(
      warnings,
    );
  }
});

describe("a data directory", () => {
  const start = async (dataDir: string) => {
    const settings = { ...testSettings(dataDir), socketPath: join(shared, "api.sock") };
    const server = await startServer(settings, { clock: systemClock, log: nullLogger });
    await server.close();
  };

  test.skipIf(!asRoot)(
    "that somebody else made in a shared one is refused, and nothing is put there",
    async () => {
      const dataDir = join(shared, "data");
      mkdirSync(dataDir);
      lchownSync(dataDir, somebodyElse, somebodyElse);
      expect((await failureOf(start(dataDir)))?.code).toBe("FAILED_PRECONDITION");
      expect(existsSync(join(dataDir, "datastore.sqlite3"))).toBe(false);
    },
  );

  test.skipIf(!asRoot)(
    "of an agent is refused likewise: its bundle says which server is believed",
    async () => {
      const directory = join(shared, "agent");
      mkdirSync(directory);
      expect(await failureOf(createFileStateStore(directory).load())).toBeUndefined();
      lchownSync(directory, somebodyElse, somebodyElse);
      expect((await failureOf(createFileStateStore(directory).load()))?.code).toBe("FAILED_PRECONDITION");
    },
  );

  test("that everybody may write to is refused with the command that mends it", async () => {
    const dataDir = join(shared, "data");
    mkdirSync(dataDir);
    chmodSync(dataDir, 0o757);
    const error = await failureOf(start(dataDir));
    expect(error?.message).toContain(`run chmod 700 "${dataDir}"`);
    expect(readdirSync(dataDir)).toEqual([]);
    chmodSync(dataDir, 0o775);
    expect(await failureOf(start(dataDir))).toBeUndefined();
  });

  test.skipIf(!asRoot)("of another user in a place of one's own is used with a warning", async () => {
    const own = mkdtempSync(join(shared, "own-"));
    const dataDir = join(own, "data");
    mkdirSync(dataDir);
    lchownSync(dataDir, somebodyElse, somebodyElse);
    const log = createRecordingLogger();
    checkDataDir({ dataDir, dev: false }, log);
    expect(log.lines).toMatchObject([
      { level: "warning", owner: `uid ${somebodyElse}`, remedy: `run chown 0 "${dataDir}"` },
    ]);
  });

  test("gets no rights for others on anything in it, however lax the umask", async () => {
    const umask = process.umask(0);
    const dataDir = join(shared, "data");
    try {
      await start(dataDir);
      expect(statSync(dataDir).mode & 0o777).toBe(0o700);
      for (const name of ["keys.json", "datastore.sqlite3"]) {
        expect([name, statSync(join(dataDir, name)).mode & 0o777]).toEqual([name, 0o600]);
      }
    } finally {
      process.umask(umask);
    }
  });
});

describe.skipIf(!asRoot)("what somebody else has put where the server's files are to be", () => {
  /** In /tmp, as some configurations have it; the data directory is the server's own. */
  const settingsIn = (place: string) => {
    const settings = testSettings(join(shared, "data"));
    return { ...settings, dataStore: { ...settings.dataStore, path: join(place, "datastore.sqlite3") } };
  };

  test.each(["datastore.sqlite3", "datastore.sqlite3-wal", "datastore.sqlite3-journal"])(
    "is not taken for its own: %s",
    async (name) => {
      writeFileSync(join(shared, name), "");
      lchownSync(join(shared, name), somebodyElse, somebodyElse);
      const starting = startServer(settingsIn(shared), { clock: systemClock, log: nullLogger });
      const error = await failureOf(starting.then((server) => server.close()));
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain(`"${join(shared, name)}" belongs to uid ${somebodyElse}`);
      expect(existsSync(join(shared, "data"))).toBe(false);
    },
  );

  test("is not carried out: the plan of a restore that nobody began", async () => {
    const victim = join(shared, "victim");
    writeFileSync(victim, "precious");
    const plan = join(shared, "datastore.sqlite3.replacing");
    writeFileSync(plan, JSON.stringify({ replace: [], remove: "victim" }));
    lchownSync(plan, somebodyElse, somebodyElse);
    const starting = startServer(settingsIn(shared), { clock: systemClock, log: nullLogger });
    const error = await failureOf(starting.then((server) => server.close()));
    expect(error?.message).toContain(`"${plan}" belongs to uid ${somebodyElse}`);
    expect(existsSync(victim)).toBe(true);
  });

  test("is not given to them by root: a file behind a link", () => {
    const folder = join(shared, "theirs");
    mkdirSync(folder);
    lchownSync(folder, somebodyElse, somebodyElse);
    const own = join(shared, "own");
    writeFileSync(own, "");
    symlinkSync(own, join(folder, "link"));
    giveToOwnerOf(folder, join(folder, "link"));
    expect(statSync(own).uid).toBe(0);
  });
});
