/** The entries file of an instance: applied at start, followed as it is edited. */
import { readFileSync, watch } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import type { Registry } from "../../server/registry.ts";
import type { EntryOwner } from "./declared-entries.ts";
import { type EntriesFile, parseEntriesFile } from "./entries-file.ts";
import { applyPlan, type EntriesPlan, planEntries } from "./entries-plan.ts";

/** Milliseconds to let an editor finish: many empty a file first and write it then. */
const settleMs = 20;

export interface EntriesSourceOptions {
  /** As the user wrote it. */
  readonly path: string;
  readonly owner: EntryOwner;
  readonly registry: Registry;
  /** IDs of the entries that the file brought in so far. */
  readonly owned: readonly string[];
  /** Keeps the IDs for the next run; called before and after each change of entries. */
  readonly remember: (owned: readonly string[]) => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface EntriesSource {
  /** Applies what `read` returned. @throws SpireError with the place of what the server refused. */
  apply(file: EntriesFile): Promise<void>;
  /** Follows edits until `close`. An edit that is broken is logged and changes nothing. */
  follow(): void;
  close(): Promise<void>;
}

/** @throws SpireError NOT_FOUND when it can't be read, INVALID_ARGUMENT with the place of a mistake. */
export function readEntriesFile(path: string, owner: EntryOwner): EntriesFile {
  return parseEntriesFile(readText(path), path, owner);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const reason =
      cause instanceof Error && "code" in cause && cause.code === "ENOENT" ? "no such file" : String(cause);
    throw new SpireError("NOT_FOUND", `${path}: ${reason}`, { cause });
  }
}

export function createEntriesSource(options: EntriesSourceOptions): EntriesSource {
  const { path, owner, registry, clock, log } = options;
  let owned = options.owned;
  let work: Promise<void> = Promise.resolve();
  let closed = false;
  let endWatch = () => {};

  async function apply(file: EntriesFile): Promise<void> {
    for (const warning of file.warnings) log.warn(warning);
    const current = await registry.store.entries.get(owned);
    const plan = planEntries(
      current.filter((entry) => entry !== undefined),
      file.entries,
    );
    // Before and after: an entry that was made and not remembered would never be removed again.
    await options.remember([...owned, ...plan.create.map(({ draft }) => draft.id)]);
    try {
      owned = await applyPlan(registry, plan);
    } finally {
      await options.remember(owned);
    }
    log.info(`applied ${path}`, countsOf(plan));
  }

  async function reload(): Promise<void> {
    if (closed) return;
    try {
      await apply(readEntriesFile(path, owner));
    } catch (error) {
      log.error(`${SpireError.from(error).message}; the entries stay as they were`);
    }
  }

  return {
    apply,
    follow() {
      let cancel = () => {};
      const changed = () => {
        cancel();
        cancel = clock.after(settleMs, () => {
          work = work.then(reload);
        });
      };
      // The folder is watched, because editors replace a file rather than write into it.
      const name = basename(path);
      const watcher = watch(dirname(resolve(path)), { persistent: false }, (_, file) => {
        if (file === null || file === name) changed();
      });
      watcher.on("error", (error) => log.error(`${path} is no longer watched`, { error }));
      endWatch = () => {
        cancel();
        watcher.close();
      };
    },
    async close() {
      closed = true;
      endWatch();
      await work;
    },
  };
}

const countsOf = ({ create, update, remove }: EntriesPlan) => ({
  created: create.length,
  updated: update.length,
  deleted: remove.length,
});
