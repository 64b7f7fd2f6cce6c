/** When backups are made by themselves, which stay, and what is told of them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createManualClock, type ManualClock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { parseTrustDomain } from "../../core/spiffe-id.ts";
import type { Task } from "../../core/tasks.ts";
import { startScheduledBackups } from "./schedule.ts";

const hour = 3_600_000;
const start = Date.parse("2026-11-22T08:00:00Z");

let directory: string;
let clock: ManualClock;
let task: Task | undefined;
let fails: boolean;
let logged: string[];
let metrics: string[];

beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), "spire-schedule-")), "backups");
  clock = createManualClock(start);
  fails = false;
  logged = [];
  metrics = [];
});
afterEach(async () => {
  await task?.stop();
  rmSync(join(directory, ".."), { recursive: true, force: true });
});

const log: Logger = {
  error: (message, fields) => logged.push(`error ${message}: ${fields?.["error"]}`),
  warn: (message) => logged.push(`warn ${message}`),
  info: (message) => logged.push(`info ${message}`),
  debug() {},
  with: () => log,
};

async function begin(): Promise<void> {
  task = startScheduledBackups({
    directory,
    intervalMs: hour,
    keep: 2,
    trustDomain: parseTrustDomain("example.org"),
    async backUp(target) {
      if (fails) throw new SpireError("DATA_LOSS", "the datastore is damaged");
      writeFileSync(target, "backup");
      return { bytes: 6, entries: 1, agents: 2, holdsCaKeys: false };
    },
    clock,
    log,
    metrics: {
      gauge: (name, value) => metrics.push(`${name.join(".")} = ${value}`),
      counter: (name, by, labels) => metrics.push(`${name.join(".")} + ${by} ${labels?.["status"]}`),
      sample() {},
    },
  });
  await clock.advance(0);
}

const files = () => readdirSync(directory).sort();

test("one is made at once, and then each interval; the newest stay", async () => {
  await begin();
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(files()).toEqual(["example.org-20261122T080000Z.backup"]);
  await clock.advance(3 * hour);
  expect(files()).toEqual(["example.org-20261122T100000Z.backup", "example.org-20261122T110000Z.backup"]);
  expect(metrics).toContain("backup + 1 OK");
  expect(metrics).toContain(`backup.last_success = ${(start + 3 * hour) / 1000}`);
  expect(metrics).toContain("backup.size_bytes = 6");
});

test("a start counts from the newest that is there", async () => {
  await begin();
  await task?.stop();
  await clock.advance(hour / 2);
  await begin();
  expect(files()).toHaveLength(1);
  await clock.advance(hour / 2);
  expect(files()).toEqual(["example.org-20261122T080000Z.backup", "example.org-20261122T090000Z.backup"]);
});

test("files of others in the directory are left alone", async () => {
  await begin();
  const others = ["other.test-20200101T000000Z.backup", "example.org-by-hand.backup", "notes"];
  for (const name of others) writeFileSync(join(directory, name), "");
  await clock.advance(5 * hour);
  expect(files()).toEqual(expect.arrayContaining(others));
});

test("one that fails is logged and counted, takes nothing away, and is tried again", async () => {
  await begin();
  await clock.advance(hour);
  const before = files();
  fails = true;
  await clock.advance(hour);
  expect(files()).toEqual(before);
  expect(logged.filter((line) => line.startsWith("error Scheduled backup failed")).length).toBeGreaterThan(0);
  expect(logged.join("\n")).toContain("the datastore is damaged");
  expect(metrics).toContain("backup + 1 DataLoss");
  fails = false;
  await clock.advance(hour);
  expect(files()).not.toEqual(before);
});

test("a newest one from the future does not put the next one off", async () => {
  await begin();
  writeFileSync(join(directory, "example.org-20991231T000000Z.backup"), "");
  await clock.advance(hour);
  expect(files()).toContain("example.org-20261122T090000Z.backup");
});
