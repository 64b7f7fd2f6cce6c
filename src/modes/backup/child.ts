/** Makes a backup in a process of its own, so that a server which has one made goes on undisturbed. */
import { invalidArgument, SpireError } from "../../core/errors.ts";
import type { BackupResult } from "../../server/backup/schedule.ts";
import type { BackupJob } from "./make.ts";

/** Makes and proves a backup. */
export type BackUp = (job: BackupJob, signal: AbortSignal) => Promise<BackupResult>;

/** Where Bun keeps the files of a compiled program. */
const compiledRoot = "/$bunfs/";

/** Runs this program's `server backup -fromStdin`. @throws SpireError with what it wrote; ABORTED by `signal`. */
export const backUpInChild: BackUp = async ({ target, ...job }, signal) => {
  const isCompiled = Bun.main.startsWith(compiledRoot);
  const self = isCompiled ? [process.execPath] : [process.execPath, Bun.main];
  const child = Bun.spawn([...self, "server", "backup", target, "-fromStdin", "-output", "json"], {
    // The file of the program may have another's name, by which it would be that program.
    ...(isCompiled ? { argv0: "spire" } : {}),
    stdin: Buffer.from(JSON.stringify(job)),
    stdout: "pipe",
    stderr: "pipe",
  });
  const kill = () => child.kill("SIGKILL");
  signal.addEventListener("abort", kill);
  if (signal.aborted) kill();
  try {
    const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
    if (signal.aborted) throw new SpireError("ABORTED", "the server is stopping");
    if (code !== 0)
      throw new SpireError("INTERNAL", err.trim().replace(/^Error: /, "") || `it ended with ${code}`);
    return readResult(out);
  } finally {
    signal.removeEventListener("abort", kill);
  }
};

function readResult(out: string): BackupResult {
  const { bytes, entries, agents, holds_ca_keys: holdsCaKeys }: Record<string, unknown> = JSON.parse(out);
  if (typeof bytes !== "number" || typeof entries !== "number" || typeof agents !== "number") {
    throw invalidArgument("the backup's own report can't be read");
  }
  return { bytes, entries, agents, holdsCaKeys: holdsCaKeys === true };
}
