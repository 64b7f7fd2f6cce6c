/** What somebody else can put where a backup, a restore or an import works, and what root does in another's directory. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { nullLogger } from "../../src/core/log.ts";
import { asOwnerOf } from "../../src/modes/backup/as-owner.ts";
import { makeBackup } from "../../src/modes/backup/make.ts";
import { restoreBackup } from "../../src/modes/backup/restore.ts";
import { takeOver } from "../../src/modes/import/take-over.ts";
import { checkSurroundings } from "../../src/modes/server/surroundings.ts";
import { startServer } from "../../src/modes/server.ts";
import { finishReplacement } from "../../src/plugins/datastores/sqlite/replacement.ts";
import { goldenKeys, makeStockDatabase } from "../backup/stock-database.ts";
import { testSettings, trustDomain } from "../server/running.ts";

/** Only root can give a file to somebody else. */
const asRoot = process.getuid?.() === 0;
const somebodyElse = 65_533;

let base: string;
let data: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "spire-restore-places-"));
  chmodSync(base, 0o755);
  data = join(base, "data");
  mkdirSync(data, { mode: 0o700 });
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

const databasePath = () => join(data, "datastore.sqlite3");
const keysPath = () => join(data, "keys.json");
const planPath = () => `${databasePath()}.replacing`;
const backupPath = () => join(base, "a.backup");

const settings = () => ({
  ...testSettings(data),
  socketPath: join(base, "private", "api.sock"),
  keyManager: { type: "disk" as const, keysPath: keysPath() },
  dataStore: { type: "sqlite" as const, path: databasePath() },
});
const start = async () => (await startServer(settings(), { clock: systemClock, log: nullLogger })).close();
const files = () => ({ trustDomain, databasePath: databasePath(), keysPath: keysPath() });
const backUp = (target = backupPath()) => makeBackup({ ...files(), target, replace: false }, systemClock);
const restore = (file = backupPath()) =>
  restoreBackup(
    { ...files(), socketPath: settings().socketPath, file, withKeys: true, bans: [], dryRun: false },
    systemClock,
  );
const importFrom = (from: string) =>
  takeOver(
    {
      ...files(),
      socketPath: settings().socketPath,
      from,
      fromKeys: goldenKeys,
      replace: true,
      dryRun: false,
    },
    systemClock,
  );

const failureOf = (work: Promise<unknown>): Promise<SpireError | undefined> =>
  work.then(
    () => undefined,
    (error: unknown) => SpireError.from(error),
  );
const contentOf = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map(({ name, parentPath }) => [join(parentPath, name), readFileSync(join(parentPath, name), "base64")])
    .sort();

const work = ".spire-work-1-abcdef";
const aside = (name: string) => `${name}.before-20261122T080000Z`;
const replacesDatabase = {
  staged: `${work}/datastore.sqlite3`,
  target: "datastore.sqlite3",
  aside: aside("datastore.sqlite3"),
};
const replacesKeys = {
  staged: ".keys.json.0123456789ab.tmp",
  target: "keys.json",
  aside: aside("keys.json"),
};
const wholePlan = { replace: [replacesDatabase, replacesKeys], remove: work };

/** A restore that was killed once it had written its plan; the staged files are copies. */
function interrupt(plan: object = wholePlan): void {
  mkdirSync(join(data, work), { recursive: true, mode: 0o700 });
  copyFileSync(databasePath(), join(data, work, "datastore.sqlite3"));
  copyFileSync(keysPath(), join(data, replacesKeys.staged));
  writeFileSync(planPath(), JSON.stringify(plan), { mode: 0o600 });
}

describe("the plan of a restore", () => {
  beforeEach(async () => {
    await start();
    await backUp();
  });

  test("that was begun here is finished", async () => {
    interrupt();
    await finishReplacement(files());
    expect(existsSync(join(data, aside("datastore.sqlite3")))).toBe(true);
    expect(existsSync(join(data, aside("keys.json")))).toBe(true);
    expect(existsSync(planPath())).toBe(false);
    expect(existsSync(join(data, work))).toBe(false);
    await start();
  });

  const changed = (fields: object, of: object = replacesDatabase) => ({
    ...wholePlan,
    replace: [{ ...of, ...fields }],
  });
  test.each([
    ["removes another directory", { ...wholePlan, remove: "../victim" }],
    ["removes the data themselves", { ...wholePlan, remove: "." }],
    ["removes a directory of another name", { replace: [], remove: "mine" }],
    ["removes what lies elsewhere", { replace: [], remove: `../victim/${work}` }],
    ["replaces another file", changed({ target: "../victim/file", aside: aside("../victim/file") })],
    ["replaces what lies beside the data", changed({ target: "other", aside: aside("other") })],
    [
      "replaces what was made ready to lie beside them",
      changed({ staged: ".other.0123456789ab.tmp", target: "other", aside: aside("other") }),
    ],
    ["moves another file in", changed({ staged: "../victim/file" })],
    ["moves the keys in as the database", changed({ staged: "keys.json" })],
    ["moves the database in as the keys", changed({ staged: "datastore.sqlite3" }, replacesKeys)],
    ["moves the old one elsewhere", changed({ aside: "../victim/file" })],
    ["moves the old one over another", changed({ aside: "keys.json" }, replacesDatabase)],
  ])("that %s is not carried out, whose ever it is", async (_, plan) => {
    mkdirSync(join(base, "victim", work), { recursive: true });
    mkdirSync(join(data, "mine"));
    writeFileSync(join(base, "victim", "file"), "precious");
    writeFileSync(join(base, "victim", work, "file"), "precious");
    writeFileSync(join(data, "mine", "file"), "precious");
    writeFileSync(join(data, "other"), "precious");
    interrupt(plan);
    const before = contentOf(base);
    for (const doing of [start, restore]) {
      const error = await failureOf(doing());
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain(`${planPath()} is not the plan of a restore that was begun here`);
      expect(error?.message).not.toContain("\n");
      expect(contentOf(base)).toEqual(before);
    }
  });

  const plantings: readonly (readonly [string, () => void])[] = [
    ["everybody can write to", () => chmodSync(planPath(), 0o666)],
    [
      "is a link",
      () => {
        copyFileSync(planPath(), join(base, "plan"));
        rmSync(planPath());
        symlinkSync(join(base, "plan"), planPath());
      },
    ],
    [
      "is a link to nothing",
      () => {
        rmSync(planPath());
        symlinkSync(join(base, "none"), planPath());
      },
    ],
    ["moves in what everybody can write to", () => chmodSync(join(data, work, "datastore.sqlite3"), 0o666)],
    [
      "moves in a link",
      () => {
        rmSync(join(data, replacesKeys.staged));
        symlinkSync(join(base, "a.backup"), join(data, replacesKeys.staged));
      },
    ],
    [
      "moves in files behind a link",
      () => {
        mkdirSync(join(base, "elsewhere"));
        copyFileSync(databasePath(), join(base, "elsewhere", "datastore.sqlite3"));
        rmSync(join(data, work), { recursive: true });
        symlinkSync(join(base, "elsewhere"), join(data, work));
      },
    ],
    ...(asRoot
      ? ([
          ["somebody else made", () => chownSync(planPath(), somebodyElse, somebodyElse)],
          [
            "moves in somebody else's file",
            () => chownSync(join(data, replacesKeys.staged), somebodyElse, somebodyElse),
          ],
          [
            "works in somebody else's directory",
            () => chownSync(join(data, work), somebodyElse, somebodyElse),
          ],
        ] as const)
      : []),
  ];
  test.each([...plantings])("that %s is refused by all who would finish it", async (name, plant) => {
    interrupt();
    plant();
    const stock = join(base, "stock.sqlite3");
    makeStockDatabase(stock);
    const before = contentOf(base);
    const doings = { start, restore, import: () => importFrom(stock), backup: () => backUp(join(base, "b")) };
    for (const [doing, run] of Object.entries(doings)) {
      const error = await failureOf(run());
      expect([doing, error?.code]).toEqual([doing, "FAILED_PRECONDITION"]);
      // A backup carries nothing out, and looks at the plan itself alone.
      const looks = doing !== "backup" || !/^(moves|works) in/.test(name);
      if (looks) expect(error?.message).toContain(`${planPath()} is not the plan`);
      expect(contentOf(base)).toEqual(before);
    }
  });
});

describe.skipIf(!asRoot)("root, where the data are another user's,", () => {
  const giveAway = (folder: string) => {
    for (const name of readdirSync(folder)) lchownSync(join(folder, name), somebodyElse, somebodyElse);
    chownSync(folder, somebodyElse, somebodyElse);
  };
  /** What nobody but root can look into. */
  const hidden = () => join(base, "hidden");

  beforeEach(async () => {
    await start();
    mkdirSync(hidden(), { mode: 0o700 });
  });
  afterEach(() => {
    expect([process.geteuid?.(), process.getegid?.()]).toEqual([0, 0]);
  });

  test("backs up into a directory of root's and restores from it; the files are that user's", async () => {
    giveAway(data);
    const target = join(hidden(), "a.backup");
    await backUp(target);
    expect(statSync(target)).toMatchObject({ uid: 0 });
    const { aside } = await restore(target);
    expect(aside).toHaveLength(2);
    for (const name of readdirSync(data)) {
      const { uid, gid } = statSync(join(data, name));
      expect([name, uid, gid]).toEqual([name, somebodyElse, somebodyElse]);
    }
    expect(readdirSync(hidden())).toEqual(["a.backup"]);
    expect(readdirSync(data).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("backs up into that user's directory as that user", async () => {
    giveAway(data);
    const target = join(data, "a.backup");
    await backUp(target);
    expect(statSync(target).uid).toBe(somebodyElse);
  });

  test("makes no backup in a directory of a third one", async () => {
    const folder = join(base, "theirs");
    mkdirSync(folder);
    giveAway(folder);
    const error = await failureOf(backUp(join(folder, "a.backup")));
    expect(error?.message).toContain(`lies in a directory of uid ${somebodyElse}`);
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each(["datastore.sqlite3", "keys.json"])(
    "follows no link of theirs to what is root's: a backup of %s",
    async (name) => {
      copyFileSync(join(data, name), join(hidden(), name));
      rmSync(join(data, name));
      symlinkSync(join(hidden(), name), join(data, name));
      giveAway(data);
      expect(await failureOf(backUp())).toBeDefined();
      expect(existsSync(backupPath())).toBe(false);
    },
  );

  test.each(["stock.sqlite3", "stock.sqlite3-wal"])(
    "follows no link of theirs to what is root's: an import of %s",
    async (name) => {
      const theirs = join(base, "stock");
      mkdirSync(theirs);
      makeStockDatabase(join(theirs, "stock.sqlite3"));
      rmSync(join(theirs, name), { force: true });
      writeFileSync(join(hidden(), "file"), "precious");
      symlinkSync(join(hidden(), "file"), join(theirs, name));
      giveAway(theirs);
      giveAway(data);
      const before = contentOf(data);
      const error = await failureOf(importFrom(join(theirs, "stock.sqlite3")));
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain("can't be read: EACCES");
      expect(contentOf(data)).toEqual(before);
    },
  );

  test("a restore removes nothing of root's behind a link of theirs", async () => {
    await backUp();
    const theirs = join(hidden(), "kept");
    mkdirSync(theirs);
    writeFileSync(join(theirs, ".keys.json.0123456789ab.tmp"), "precious");
    const before = contentOf(hidden());
    rmSync(keysPath());
    symlinkSync(theirs, join(data, "keys"));
    giveAway(data);
    const job = { ...files(), keysPath: join(data, "keys", "keys.json"), socketPath: settings().socketPath };
    const restoring = restoreBackup(
      { ...job, file: backupPath(), withKeys: true, bans: [], dryRun: false },
      systemClock,
    );
    expect(await failureOf(restoring)).toBeDefined();
    expect(contentOf(hidden())).toEqual(before);
  });

  test("takes no way through a link that a third one can change", async () => {
    await backUp();
    symlinkSync(data, join(base, "link"));
    lchownSync(join(base, "link"), somebodyElse, somebodyElse);
    data = join(base, "link");
    const error = await failureOf(restore());
    expect(error?.message).toContain(`"${data}" is a link that belongs to uid ${somebodyElse}`);
  });

  test("is told when that user can't get to its data", async () => {
    await backUp();
    giveAway(data);
    chmodSync(base, 0o700);
    for (const doing of [restore, () => backUp(join(base, "b"))]) {
      const error = await failureOf(doing());
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain(
        `"${data}" belongs to uid ${somebodyElse}: it is worked in as that user`,
      );
      expect(process.geteuid?.()).toBe(0);
    }
  });

  test("has that user's rights and groups alone while it works there, and its own again when that fails", async () => {
    giveAway(data);
    const groups = process.getgroups?.() ?? [];
    process.setgroups?.([0, 4]);
    try {
      const error = await failureOf(
        asOwnerOf(data, async () => {
          expect([process.geteuid?.(), process.getegid?.()]).toEqual([somebodyElse, somebodyElse]);
          expect(process.getgroups?.().filter((group) => group !== somebodyElse)).toEqual([]);
          throw new SpireError("ABORTED", "enough");
        }),
      );
      expect(error?.code).toBe("ABORTED");
      expect(process.getgroups?.()).toContain(4);
    } finally {
      process.setgroups?.(groups);
    }
  });
});

test.skipIf(!asRoot)("data that can't be reached are for who opens them to tell", async () => {
  process.seteuid?.(somebodyElse);
  try {
    const error = await failureOf(start());
    expect(error?.code).toBe("FAILED_PRECONDITION");
    expect(error?.message).toContain("can't be read: EACCES");
  } finally {
    process.seteuid?.(0);
  }
});

test("data below what is no directory are for who makes it to tell", async () => {
  await start();
  await backUp();
  data = join(backupPath(), "data");
  const error = await failureOf(restore());
  expect(error?.code).toBe("FAILED_PRECONDITION");
  expect(error?.message).toContain(`${data} can't be made`);
});

describe("a directory for scheduled backups", () => {
  const check = (directory: string) => {
    const schedule = {
      directory,
      directoryPlace: "server.conf:7:5",
      intervalMs: 1,
      keep: 1,
      withKeys: false,
    };
    return failureOf(checkSurroundings({ ...settings(), backup: schedule }, nullLogger));
  };

  test.skipIf(!asRoot)(
    "that is somebody else's is refused, naming the place in the configuration",
    async () => {
      const folder = join(base, "backups");
      mkdirSync(folder);
      chownSync(folder, somebodyElse, somebodyElse);
      const error = await check(folder);
      expect(error?.code).toBe("FAILED_PRECONDITION");
      expect(error?.message).toContain(`backup directory "${folder}" belongs to uid ${somebodyElse}`);
      expect(error?.message).toContain("(server.conf:7:5: run chown 0 ");
    },
  );

  test("that everybody can write to is refused, unless they can't take each other's files", async () => {
    const folder = join(base, "backups");
    mkdirSync(folder);
    chmodSync(folder, 0o777);
    expect((await check(folder))?.message).toContain(`(server.conf:7:5: run chmod o-w "${folder}")`);
    for (const mode of [0o1777, 0o775, 0o700]) {
      chmodSync(folder, mode);
      expect(await check(folder)).toBeUndefined();
    }
    expect(await check(join(base, "not", "there"))).toBeUndefined();
    writeFileSync(join(base, "file"), "");
    expect(await check(join(base, "file", "below"))).toBeUndefined();
  });
});
