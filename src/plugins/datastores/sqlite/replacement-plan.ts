/**
 * The file that says what a restore under way has still to do. Whoever can write it could have any file moved or
 * removed by who finishes the restore, so it is judged before anything of it is done.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, type Stats } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { SpireError } from "../../../core/errors.ts";
import { reasonOf } from "../../../files/failure.ts";
import { findForeignPart } from "../../../files/foreign-part.ts";
import { isUnfinished } from "../../../files/replace-file.ts";
import { isWorkName } from "../../../files/work-directory.ts";

/** Paths are absolute. */
export interface Replaced {
  /** A finished file on the file system of `target`. */
  readonly staged: string;
  readonly target: string;
  /** Where the old file goes; nothing may be there. */
  readonly aside: string;
}

export interface Plan {
  readonly replace: readonly Replaced[];
  /** A directory that goes in the end. */
  readonly remove: string;
}

/** What a restore may replace. */
export interface Replaceable {
  readonly databasePath: string;
  /** Undefined = keys are in no file. */
  readonly keysPath?: string | undefined;
}

export const planPathOf = (databasePath: string): string => `${databasePath}.replacing`;

/** @throws SpireError DATA_LOSS for one that can't be read; FAILED_PRECONDITION for one that this program can't have made. */
export function readPlan(replaceable: Replaceable): Plan {
  const path = planPathOf(resolve(replaceable.databasePath));
  const refuse = refusalOf(path);
  const plan = parsePlan(path, readOwn(path, refuse));
  requirePlace(plan, replaceable, refuse);
  for (const { staged, target, aside } of plan.replace) refuseForeign([staged, target, aside], refuse);
  refuseForeign([plan.remove], refuse);
  for (const { staged } of plan.replace) requireOwn(staged, "file", refuse);
  requireOwn(plan.remove, "directory", refuse);
  return plan;
}

/** Who made it, whatever it says. @throws SpireError FAILED_PRECONDITION for one that somebody else has. */
export function requireOwnPlan(databasePath: string): void {
  const path = planPathOf(resolve(databasePath));
  readOwn(path, refusalOf(path));
}

const refusalOf =
  (path: string): Refuse =>
  (why) =>
    new SpireError(
      "FAILED_PRECONDITION",
      `${path} is not the plan of a restore that was begun here, and is not carried out: ${why}; look who put it there, remove it, and restore again if one was under way`,
    );

function refuseForeign(paths: readonly string[], refuse: Refuse): void {
  for (const path of paths) {
    const foreign = findForeignPart(path);
    if (foreign) throw refuse(`"${foreign.path}" belongs to ${foreign.owner}`);
  }
}

type Refuse = (why: string) => SpireError;

/** What is looked at is what is read, whatever has the name by then. */
function readOwn(path: string, refuse: Refuse): string {
  refuseForeign([path], refuse);
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  let file: number;
  try {
    file = openSync(path, flags);
  } catch (cause) {
    throw refuse(reasonOf(cause));
  }
  try {
    const fault = faultOf(fstatSync(file), "file");
    if (fault !== undefined) throw refuse(`it ${fault}`);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

function requireOwn(path: string, kind: "file" | "directory", refuse: Refuse): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  const fault = found && faultOf(found, kind);
  if (fault !== undefined) throw refuse(`"${path}" ${fault}`);
}

const writableByEverybody = 0o002;
const root = 0;

/** Groups may have rights, as volumes of containers give them. */
function faultOf(found: Stats, kind: "file" | "directory"): string | undefined {
  if (!(kind === "file" ? found.isFile() : found.isDirectory())) return `is no ${kind}`;
  const own = process.geteuid?.() ?? root;
  if (found.uid !== own && found.uid !== root) return `belongs to uid ${found.uid}, and this is uid ${own}`;
  return (found.mode & writableByEverybody) === 0 ? undefined : "can be written by everybody";
}

function parsePlan(path: string, text: string): Plan {
  const within = (name: string) => resolve(dirname(path), name);
  try {
    const { replace, remove }: Record<string, unknown> = JSON.parse(text);
    if (Array.isArray(replace) && replace.every(isReplaced) && typeof remove === "string") {
      const absolute = replace.map(({ staged, target, aside }) => ({
        staged: within(staged),
        target: within(target),
        aside: within(aside),
      }));
      return { replace: absolute, remove: within(remove) };
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

/** As `replacedBy` in modes/backup/place.ts names it. */
const asideEnd = /^\.before-\d{8}T\d{6}Z(-\d{1,9})?$/;

/** @throws SpireError unless all paths are those that a restore of this database and these keys has. */
function requirePlace({ replace, remove }: Plan, replaceable: Replaceable, refuse: Refuse): void {
  const databasePath = resolve(replaceable.databasePath);
  const keysPath = replaceable.keysPath === undefined ? undefined : resolve(replaceable.keysPath);
  if (dirname(remove) !== dirname(databasePath) || !isWorkName(basename(remove))) {
    throw refuse(`it would remove "${remove}"`);
  }
  for (const { staged, target, aside } of replace) {
    if (target !== databasePath && target !== keysPath) {
      throw refuse(`it would replace "${target}", which is neither the database nor the key file`);
    }
    const isStaged =
      target === databasePath
        ? staged === join(remove, basename(databasePath))
        : dirname(staged) === dirname(target) && isUnfinished(basename(staged), target);
    if (!isStaged) throw refuse(`it would put "${staged}" in the place of "${target}"`);
    if (!aside.startsWith(target) || !asideEnd.test(aside.slice(target.length))) {
      throw refuse(`it would move "${target}" to "${aside}"`);
    }
  }
}
