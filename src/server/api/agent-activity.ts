/** spire.server.activity.v1.AgentActivity: what the server has seen of its agents. */
import { invalidArgument } from "../../core/errors.ts";
import { isBanned } from "../../core/node.ts";
import { AgentActivityService } from "../../rpc/gen/spire/server/activity/v1/activity.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { ActivityBook } from "../agent-activity.ts";
import type { Registry } from "../registry.ts";

export interface AgentActivityApiOptions {
  readonly registry: Registry;
  readonly activity: Pick<ActivityBook, "of">;
}

export function createAgentActivityApi({ registry, activity }: AgentActivityApiOptions): BoundService {
  const { index, trustDomain } = registry;
  return bindService(AgentActivityService, {
    async listAgentActivity({ pageSize, pageToken }) {
      if (pageSize < 0) throw invalidArgument("the page size is below zero");
      const ids = [...index.nodeIds()].filter((id) => id > pageToken).sort();
      const page = pageSize === 0 ? ids : ids.slice(0, pageSize);
      const agents = page.flatMap((id) => {
        const node = index.node(id);
        if (!node) return [];
        const { lastSeenAt, bundleSequence } = activity.of(id);
        const { agentVersion: version, expiresAt } = node;
        return [{ id, version, lastSeenAt, bundleSequence, banned: isBanned(node), expiresAt }];
      });
      return {
        agents,
        nextPageToken: page.length < ids.length ? (page.at(-1) ?? "") : "",
        currentBundleSequence: registry.bundles.get(trustDomain)?.sequenceNumber ?? 0,
      };
    },
  });
}
