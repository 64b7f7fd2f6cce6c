/** The versions of the trust domain's own bundle: what changed with each, and the way back to what one of them held. */
import { type Clock, unixSeconds } from "../core/clock.ts";
import { notFound } from "../core/errors.ts";
import type { Logger } from "../core/log.ts";
import { emptyBundle, mergeBundles, type TrustBundle } from "../core/trust-bundle.ts";
import { authorityId, parseCertificate } from "../core/x509/certificate.ts";
import type { BundleVersion, VersionNote } from "../plugins/datastores/index.ts";
import type { AuthorityKeeper, AuthoritySteps } from "./authority-keeper.ts";
import { type AuthorityKind, authorityKinds } from "./journal.ts";
import type { Registry } from "./registry.ts";

/** An authority as a version of the bundle has it. */
export interface ListedAuthority {
  readonly kind: AuthorityKind;
  /** X.509: the subject key identifier in lowercase hex. Tokens: the key ID. */
  readonly authorityId: string;
  /** Unix seconds; 0 = not stated. */
  readonly expiresAt: number;
  readonly tainted: boolean;
}

export interface AuthorityChange {
  readonly action: "added" | "removed" | "tainted" | "untainted";
  readonly authority: ListedAuthority;
}

export interface HistoryVersion extends VersionNote {
  readonly sequenceNumber: number;
  /** Whether it is the bundle as it stands. */
  readonly isCurrent: boolean;
  readonly authorities: readonly ListedAuthority[];
  /** Since the version before; undefined when that is not kept. */
  readonly changes: readonly AuthorityChange[] | undefined;
}

export interface RestoredAuthority extends ListedAuthority {
  /** It verifies nothing, and pruning will take it away again. */
  readonly isExpired: boolean;
  /** It was tainted when it was taken out, and is not now: the version that was asked for is older than the taint. */
  readonly wasTainted: boolean;
  /** The server has its key, and can taint and revoke it anew. */
  readonly isHeld: boolean;
}

export interface Restoration {
  /** Of the bundle after the restoration. */
  readonly sequenceNumber: number;
  /** Empty: the bundle had them all, and stays as it was. */
  readonly restored: readonly RestoredAuthority[];
  /** Tainted now, and were not in the version: no restoration lifts a taint. */
  readonly stillTainted: readonly ListedAuthority[];
}

export interface BundleHistory {
  /** Oldest first; the last one is the bundle as it stands. */
  versions(): Promise<readonly HistoryVersion[]>;
  /**
   * Brings back the authorities of a version that the bundle lacks, as they stood in it, under a new sequence number.
   * What the bundle has, it keeps as it is.
   *
   * @throws SpireError NOT_FOUND when the version is not kept.
   */
  restore(sequenceNumber: number): Promise<Restoration>;
}

export interface BundleHistoryOptions {
  readonly registry: Registry;
  readonly authority: AuthorityKeeper;
  readonly clock: Clock;
  readonly log: Logger;
}

export function createBundleHistory({
  registry,
  authority,
  clock,
  log,
}: BundleHistoryOptions): BundleHistory {
  const { trustDomain, store } = registry;

  /** A bundle that nobody has changed since its versions are kept is one itself. */
  async function kept(): Promise<readonly BundleVersion[]> {
    const versions = await store.bundles.versions(trustDomain);
    const current = registry.bundles.get(trustDomain);
    if (!current || versions.some(({ bundle }) => bundle.sequenceNumber === current.sequenceNumber)) {
      return versions;
    }
    return [...versions, { bundle: current, recordedAt: 0, reason: "" }];
  }

  async function restore(steps: AuthoritySteps, sequenceNumber: number): Promise<Restoration> {
    const versions = await kept();
    const version = versions.find(({ bundle }) => bundle.sequenceNumber === sequenceNumber);
    if (!version) throw notKept(sequenceNumber, versions);
    let before = emptyBundle(trustDomain);
    let after = before;
    await steps.changeBundle((bundle) => {
      before = bundle;
      const merged = mergeBundles(bundle, version.bundle);
      after = merged === bundle ? bundle : { ...merged, sequenceNumber: bundle.sequenceNumber + 1 };
      return after;
    }, `restored from sequence number ${sequenceNumber}`);
    await steps.takeUp();
    const taintedAtLast = lastSeenTainted(versions);
    const now = unixSeconds(clock);
    const restored = changesBetween(before, after).map(({ authority: { key, ...listed } }) => ({
      ...listed,
      isExpired: listed.expiresAt !== 0 && listed.expiresAt <= now,
      wasTainted: !listed.tainted && taintedAtLast.has(key),
      isHeld: isHeld(steps, listed),
    }));
    return {
      sequenceNumber: after.sequenceNumber,
      restored,
      stillTainted: changesBetween(version.bundle, before)
        .filter(({ action }) => action === "tainted")
        .map(({ authority: { key: _, ...listed } }) => listed),
    };
  }

  return {
    async versions() {
      const versions = await kept();
      const current = registry.bundles.get(trustDomain)?.sequenceNumber;
      return versions.map(({ bundle, recordedAt, reason }, index) => {
        const before =
          versions[index - 1]?.bundle ?? (bundle.sequenceNumber <= 1 ? emptyBundle(trustDomain) : undefined);
        return {
          sequenceNumber: bundle.sequenceNumber,
          recordedAt,
          reason,
          isCurrent: bundle.sequenceNumber === current,
          authorities: listOf(bundle),
          changes: before && changesBetween(before, bundle),
        };
      });
    },
    restore: (sequenceNumber) =>
      authority.exclusively(async (steps) => {
        const restoration = await restore(steps, sequenceNumber);
        for (const { kind, authorityId: id, isExpired } of restoration.restored) {
          const fields = { authority_kind: kind, local_authority_id: id, expired: isExpired };
          log.warn("Authority restored to the bundle", { ...fields, from_sequence_number: sequenceNumber });
        }
        return restoration;
      }),
  };
}

function notKept(sequenceNumber: number, versions: readonly BundleVersion[]) {
  const numbers = versions.map(({ bundle }) => bundle.sequenceNumber);
  const [first, last] = [numbers[0], numbers.at(-1)];
  const there =
    first === undefined ? "none is" : first === last ? `${first} is` : `those from ${first} to ${last} are`;
  return notFound(`version ${sequenceNumber} of the bundle is not kept; ${there}`);
}

/** The keys of authorities that were tainted in the last version that had them. */
function lastSeenTainted(versions: readonly BundleVersion[]): ReadonlySet<string> {
  const tainted = new Map<string, boolean>();
  for (const { bundle } of versions) for (const item of listOf(bundle)) tainted.set(item.key, item.tainted);
  return new Set([...tainted].filter(([, isTainted]) => isTainted).map(([key]) => key));
}

const isHeld = (
  { state }: Pick<AuthoritySteps, "state">,
  { kind, authorityId: id }: ListedAuthority,
): boolean =>
  (["prepared", "active", "old"] as const).some((status) => state(kind, status)?.authorityId === id);

/** `key` tells apart what may have the same ID, such as two certificates of one key. */
interface KeyedAuthority extends ListedAuthority {
  readonly key: string;
}

function listOf(bundle: TrustBundle): readonly KeyedAuthority[] {
  const tokens = { jwt: bundle.jwtAuthorities, wit: bundle.witAuthorities };
  return authorityKinds.flatMap((kind): KeyedAuthority[] =>
    kind === "x509"
      ? bundle.x509Authorities.map(({ der, tainted }) => {
          const certificate = parseCertificate(der);
          const id = authorityId(certificate);
          const key = `${kind} ${Buffer.from(der).toString("base64")}`;
          return { kind, key, authorityId: id, expiresAt: certificate.notAfter, tainted };
        })
      : tokens[kind].map(({ keyId, expiresAt, tainted }) => {
          return { kind, key: `${kind} ${keyId}`, authorityId: keyId, expiresAt, tainted };
        }),
  );
}

const byKey = (bundle: TrustBundle): ReadonlyMap<string, KeyedAuthority> =>
  new Map(listOf(bundle).map((item) => [item.key, item]));

interface KeyedChange extends AuthorityChange {
  readonly authority: KeyedAuthority;
}

function changesBetween(before: TrustBundle, after: TrustBundle): readonly KeyedChange[] {
  const [old, young] = [byKey(before), byKey(after)];
  const changes: KeyedChange[] = [];
  for (const authority of young.values()) {
    const was = old.get(authority.key);
    if (!was) changes.push({ action: "added", authority });
    else if (was.tainted !== authority.tainted) {
      changes.push({ action: authority.tainted ? "tainted" : "untainted", authority });
    }
  }
  for (const authority of old.values()) {
    if (!young.has(authority.key)) changes.push({ action: "removed", authority });
  }
  return changes;
}
