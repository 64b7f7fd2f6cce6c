/** spire.server.bundlehistory.v1.BundleHistory: the versions of the own bundle, and the way back to one. */
import {
  Authority_Kind,
  AuthorityChange_Action,
  type Authority as AuthorityMessage,
  BundleHistoryService,
  type Version,
} from "../../rpc/gen/spire/server/bundlehistory/v1/bundlehistory.ts";
import { type BoundService, bindService } from "../../rpc/service.ts";
import type { AuthorityChange, BundleHistory, HistoryVersion, ListedAuthority } from "../bundle-history.ts";
import type { AuthorityKind } from "../journal.ts";

export const createBundleHistoryApi = (history: BundleHistory): BoundService =>
  bindService(BundleHistoryService, {
    async listVersions() {
      return { versions: (await history.versions()).map(toVersion) };
    },
    async restoreVersion({ sequenceNumber }) {
      const restoration = await history.restore(sequenceNumber);
      return {
        sequenceNumber: restoration.sequenceNumber,
        restored: restoration.restored.map((item) => ({
          authority: toAuthority(item),
          expired: item.isExpired,
          wasTainted: item.wasTainted,
          held: item.isHeld,
        })),
        stillTainted: restoration.stillTainted.map(toAuthority),
      };
    },
  });

const toVersion = ({ isCurrent, authorities, changes, ...version }: HistoryVersion): Version => ({
  ...version,
  current: isCurrent,
  authorities: authorities.map(toAuthority),
  changes: (changes ?? []).map(({ action, authority }) => ({
    action: actions[action],
    authority: toAuthority(authority),
  })),
  changesKnown: changes !== undefined,
});

const toAuthority = ({ kind, authorityId, expiresAt, tainted }: ListedAuthority): AuthorityMessage => ({
  kind: kinds[kind],
  authorityId,
  expiresAt,
  tainted,
});

const kinds: Readonly<Record<AuthorityKind, Authority_Kind>> = {
  x509: Authority_Kind.X509,
  jwt: Authority_Kind.JWT,
  wit: Authority_Kind.WIT,
};

const actions: Readonly<Record<AuthorityChange["action"], AuthorityChange_Action>> = {
  added: AuthorityChange_Action.ADDED,
  removed: AuthorityChange_Action.REMOVED,
  tainted: AuthorityChange_Action.TAINTED,
  untainted: AuthorityChange_Action.UNTAINTED,
};
