/** What a server does by itself as time goes by. */
import { nullMetrics } from "../../core/metrics.ts";
import { startNodePruning } from "../../server/node-pruning.ts";
import { startBundlePruning, startJournalPruning } from "../../server/pruning.ts";
import { startRotation } from "../../server/rotation.ts";
import { startUpstreamFollowing } from "../../server/upstream-following.ts";
import { startVitals } from "../../server/vitals.ts";
import type { BackUp } from "../backup/child.ts";
import type { ServerContext } from "./context.ts";
import type { ServerState } from "./state.ts";
import type { NamedUpstream } from "./upstream.ts";

export interface TaskOptions {
  readonly upstreamPlugin: NamedUpstream | undefined;
  /** How scheduled backups are made; unless given, in this process. */
  readonly backUp: BackUp | undefined;
}

export async function startTasks(
  context: ServerContext,
  { registry, authority, rotation }: ServerState,
  { upstreamPlugin, backUp }: TaskOptions,
): Promise<void> {
  const { settings, clock, logOf, metrics, cleanup } = context;
  if (settings.backup) {
    const { startBackups } = await import("./backups.ts");
    const backups = startBackups(
      { ...settings, backup: settings.backup },
      { ...context, ...(backUp ? { backUp } : {}) },
    );
    cleanup.add(() => backups.stop());
  }
  const kept = { registry, authority, clock, log: logOf("ca_manager"), metrics };
  for (const task of [
    startRotation({ ...kept, isHeld: rotation.holds }),
    startBundlePruning(kept),
    startJournalPruning(kept),
    ...(upstreamPlugin ? [startUpstreamFollowing({ ...kept, plugin: upstreamPlugin.plugin })] : []),
    ...(settings.nodePruning
      ? [startNodePruning({ ...kept, log: logOf("node_manager"), ...settings.nodePruning })]
      : []),
    ...(metrics === nullMetrics ? [] : [startVitals({ ...kept, version: settings.version })]),
  ]) {
    cleanup.add(() => task.stop());
  }
  // Ends what waits for the upstream authority, which would hold up the tasks' end.
  if (upstreamPlugin) cleanup.add(() => upstreamPlugin.plugin.close());
}
