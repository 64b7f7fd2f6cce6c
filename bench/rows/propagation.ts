/** From the call that creates or deletes an entry to the update on a workload's open stream. */
import { dialUnix } from "../../src/rpc/dial.ts";
import { BatchCreateEntryRequest, EntryService } from "../../src/rpc/gen/spire/api/server/entry/v1/entry.ts";
import { Entry } from "../../src/rpc/gen/spire/api/types/entry.ts";
import { sameUser, startDev } from "../../test/interop/dev.ts";
import { epochMs, type Row } from "../row.ts";
import { startWatcher } from "../watcher.ts";

const changes = 100;

interface Delays {
  readonly created: number[];
  readonly deleted: number[];
}

/** Entries of one workload, created and deleted one after the other. */
async function measure(): Promise<Delays> {
  await using dev = await startDev([{ spiffe_id: "spiffe://example.org/first", selectors: [sameUser] }]);
  await using watcher = await startWatcher(dev.facts.workload_api_socket);
  await watcher.until((ids) => ids.length === 1);
  const channel = dialUnix(dev.facts.server_socket);
  const entries = channel.client(EntryService);
  const parentId = { trustDomain: "example.org", path: new URL(dev.facts.agent_id).pathname };
  const delays: Delays = { created: [], deleted: [] };
  try {
    for (let change = 0; change < changes; change += 1) {
      const path = `/change-${change}`;
      const entry = Entry.fromPartial({
        spiffeId: { trustDomain: "example.org", path },
        parentId,
        selectors: [sameUser],
      });
      const creation = epochMs();
      const { results } = await entries.batchCreateEntry(
        BatchCreateEntryRequest.fromPartial({ entries: [entry] }),
      );
      const told = await watcher.until((ids) => ids.includes(`spiffe://example.org${path}`));
      delays.created.push(told.at - creation);
      const deletion = epochMs();
      await entries.batchDeleteEntry({ ids: [results[0]?.entry?.id ?? ""] });
      const untold = await watcher.until((ids) => ids.length === 1);
      delays.deleted.push(untold.at - deletion);
    }
    return delays;
  } finally {
    channel.close();
  }
}

/** Both rows come from one run. */
function measureOnce(): () => Promise<Delays> {
  let delays: Promise<Delays> | undefined;
  return () => {
    delays ??= measure();
    return delays;
  };
}

export function createPropagationRows(): readonly Row[] {
  const delays = measureOnce();
  return [
    { name: "entry created to open stream told", unit: "ms", run: async () => (await delays()).created },
    { name: "entry deleted to open stream told", unit: "ms", run: async () => (await delays()).deleted },
  ];
}
