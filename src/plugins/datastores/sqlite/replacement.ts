/**
 * Puts another database, and files that belong to it, in the place of those that are there, so that a program which
 * dies at any moment leaves either all of the old or all of the new. What is to be done is written down first; from
 * then on it gets done: by whoever began, or by the next start.
 */
import { existsSync, lstatSync, renameSync, rmSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { SpireError } from "../../../core/errors.ts";
import { reasonOf } from "../../../files/failure.ts";
import { removeUnfinished, replaceFile, syncFolder } from "../../../files/replace-file.ts";
import { giveToOwnerOf, removeLeftWork } from "../../../files/work-directory.ts";
import { memory } from "./connection.ts";
import { planPathOf, type Replaceable, type Replaced, readPlan } from "./replacement-plan.ts";
import { sealPathOf } from "./seal.ts";

/** Whether a plan is there, as when somebody died in the middle of a replacement. A link is one as well. */
export function hasPlan(databasePath: string): boolean {
  try {
    return lstatSync(planPathOf(databasePath), { throwIfNoEntry: false }) !== undefined;
  } catch {
    // A place that can't be reached is for who opens the database to tell.
    return false;
  }
}

/**
 * Whether somebody died in the middle of a replacement.
 * @throws SpireError as `finishReplacement` does, for a plan that it would not carry out.
 */
export function isReplacing(replaceable: Replaceable): boolean {
  if (!hasPlan(replaceable.databasePath)) return false;
  readPlan(replaceable);
  return true;
}

/**
 * Nobody may have the database open.
 * @param replaced staged files that are on disk (synced) already; the database is one of the targets.
 * @param rest a directory that goes in the end.
 */
export async function replaceDatabase(
  replaceable: Replaceable,
  replaced: readonly Replaced[],
  rest: string,
): Promise<void> {
  const { databasePath } = replaceable;
  const folder = dirname(resolve(databasePath));
  const within = (path: string) => relative(folder, resolve(path));
  const plan = replaced.map(({ staged, target, aside }) => ({
    staged: within(staged),
    target: within(target),
    aside: within(aside),
  }));
  await replaceFile(planPathOf(databasePath), JSON.stringify({ replace: plan, remove: within(rest) }));
  giveToOwnerOf(folder, planPathOf(databasePath));
  await finishReplacement(replaceable);
}

/**
 * Does what is left of a replacement, if one was begun, and removes what others that were killed had made ready.
 * @throws SpireError DATA_LOSS for a plan that can't be read; FAILED_PRECONDITION for one that no restore of these files
 * can have made, and then nothing was moved; INTERNAL when a file can't be moved.
 */
export async function finishReplacement(replaceable: Replaceable): Promise<void> {
  const { databasePath } = replaceable;
  if (databasePath === memory) return;
  const planPath = planPathOf(databasePath);
  const folder = dirname(resolve(databasePath));
  if (!hasPlan(databasePath)) return forget(databasePath);
  try {
    const { replace, remove } = readPlan(replaceable);
    for (const item of replace) moveIn(item, item.target === resolve(databasePath));
    for (const touched of new Set(replace.map(({ target }) => dirname(target)))) {
      await syncFolder(touched);
    }
    rmSync(planPath);
    await syncFolder(folder);
    rmSync(remove, { recursive: true, force: true });
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
function moveIn({ staged, target, aside }: Replaced, isDatabase: boolean): void {
  if (!existsSync(staged)) return;
  if (isDatabase) {
    // A log would be taken for the new database's.
    moveIfThere(`${target}-wal`, `${aside}-wal`);
    rmSync(`${target}-shm`, { force: true });
    rmSync(sealPathOf(target), { force: true });
  }
  moveIfThere(target, aside);
  renameSync(staged, target);
}

function moveIfThere(from: string, to: string): void {
  if (existsSync(from)) renameSync(from, to);
}
