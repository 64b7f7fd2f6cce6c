/**
 * Puts another database, and files that belong to it, in the place of those that are there, so that a program which
 * dies at any moment leaves either all of the old or all of the new. What is to be done is written down first; from
 * then on it gets done: by whoever began, or by the next start.
 */
import { existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, relative, resolve } from "node:path";
import { SpireError } from "../../../core/errors.ts";
import { reasonOf } from "../../../files/failure.ts";
import { removeUnfinished, replaceFile, syncFolder } from "../../../files/replace-file.ts";
import { giveToOwnerOf, removeLeftWork } from "../../../files/work-directory.ts";
import { memory } from "./connection.ts";
import { sealPathOf } from "./seal.ts";

export interface Replaced {
  /** A finished file on the file system of `target`. */
  readonly staged: string;
  readonly target: string;
  /** Where the old file goes; nothing may be there. */
  readonly aside: string;
}

const planPathOf = (databasePath: string): string => `${databasePath}.replacing`;

/** Whether somebody died in the middle of a replacement. */
export const isReplacing = (databasePath: string): boolean => existsSync(planPathOf(databasePath));

/**
 * Nobody may have the database open.
 * @param replaced staged files that are on disk (synced) already; the database is one of the targets.
 * @param rest a directory that goes in the end.
 */
export async function replaceDatabase(
  databasePath: string,
  replaced: readonly Replaced[],
  rest: string,
): Promise<void> {
  const folder = dirname(resolve(databasePath));
  const within = (path: string) => relative(folder, resolve(path));
  const plan = replaced.map(({ staged, target, aside }) => ({
    staged: within(staged),
    target: within(target),
    aside: within(aside),
  }));
  await replaceFile(planPathOf(databasePath), JSON.stringify({ replace: plan, remove: within(rest) }));
  giveToOwnerOf(folder, planPathOf(databasePath));
  await finishReplacement(databasePath);
}

/**
 * Does what is left of a replacement, if one was begun, and removes what others that were killed had made ready.
 * @throws SpireError DATA_LOSS for a plan that can't be read; INTERNAL when a file can't be moved.
 */
export async function finishReplacement(databasePath: string): Promise<void> {
  if (databasePath === memory) return;
  const planPath = planPathOf(databasePath);
  const folder = dirname(resolve(databasePath));
  if (!existsSync(planPath)) return forget(databasePath);
  try {
    const { replace, remove } = readPlan(planPath);
    for (const { staged, target, aside } of replace) {
      moveIn(resolve(folder, staged), resolve(folder, target), resolve(folder, aside));
    }
    for (const touched of new Set(replace.map(({ target }) => dirname(resolve(folder, target))))) {
      await syncFolder(touched);
    }
    rmSync(planPath);
    await syncFolder(folder);
    rmSync(resolve(folder, remove), { recursive: true, force: true });
  } catch (cause) {
    if (cause instanceof SpireError) throw cause;
    throw new SpireError(
      "INTERNAL",
      `a restore under way (${planPath}) can't be finished: ${reasonOf(cause)}`,
      {
        cause,
      },
    );
  }
}

function forget(databasePath: string): void {
  for (const path of [planPathOf(databasePath), sealPathOf(databasePath)]) removeUnfinished(path);
  try {
    removeLeftWork(dirname(resolve(databasePath)));
  } catch {
    // A folder that can't be read is for who opens the database to tell.
  }
}

/** Each step is skipped when it was done already. */
function moveIn(staged: string, target: string, aside: string): void {
  if (!existsSync(staged)) return;
  // A log would be taken for the new database's.
  moveIfThere(`${target}-wal`, `${aside}-wal`);
  rmSync(`${target}-shm`, { force: true });
  rmSync(sealPathOf(target), { force: true });
  moveIfThere(target, aside);
  renameSync(staged, target);
}

function moveIfThere(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}

interface Plan {
  readonly replace: readonly Replaced[];
  readonly remove: string;
}

function readPlan(path: string): Plan {
  try {
    const { replace, remove }: Record<string, unknown> = JSON.parse(readFileSync(path, "utf8"));
    if (Array.isArray(replace) && replace.every(isReplaced) && typeof remove === "string") {
      return { replace, remove };
    }
  } catch {
    // Said below.
  }
  const what = `${basename(path)} beside the datastore is damaged, so a restore under way can't be finished`;
  throw new SpireError("DATA_LOSS", `${what}: remove ${path} and restore again`);
}

const isReplaced = (value: unknown): value is Replaced =>
  typeof value === "object" &&
  value !== null &&
  ["staged", "target", "aside"].every((name) => typeof Reflect.get(value, name) === "string");
