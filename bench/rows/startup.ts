/** From the start of `spire dev` to the first SVID at a client that was waiting for it. */
import { join } from "node:path";
import { runDev } from "../../test/interop/dev.ts";
import { temporaryFolder } from "../../test/interop/folders.ts";
import { epochMs, type Row } from "../row.ts";
import { startWatcher } from "../watcher.ts";

const starts = 20;

async function firstSvid(): Promise<number> {
  await using folder = await temporaryFolder();
  await using watcher = await startWatcher(join(folder.path, "agent.sock"));
  const begin = epochMs();
  await using _dev = runDev(folder.path, "--socket-dir", folder.path);
  const { at } = await watcher.until((ids) => ids.length > 0);
  return at - begin;
}

async function ready(): Promise<number> {
  await using folder = await temporaryFolder();
  const begin = epochMs();
  await using dev = runDev(folder.path);
  await dev.next();
  return epochMs() - begin;
}

async function repeat(sample: () => Promise<number>): Promise<number[]> {
  const samples: number[] = [];
  for (let taken = 0; taken < starts; taken += 1) samples.push(await sample());
  return samples;
}

export const startupRows: readonly Row[] = [
  { name: "dev: process start to ready screen", unit: "ms", run: () => repeat(ready) },
  { name: "dev: process start to first SVID at a client", unit: "ms", run: () => repeat(firstSvid) },
];
