/** Trust bundles in SQLite, each as one text. */
import { SpireError } from "../../../core/errors.ts";
import type { TrustDomain } from "../../../core/spiffe-id.ts";
import { deserializeBundle, serializeBundle, type TrustBundle } from "../../../core/trust-bundle.ts";
import { type BundleDeleteMode, type BundleStore, type BundleVersion, keptVersions } from "../index.ts";
import { recordChange } from "./changes.ts";
import type { Connection, Session } from "./connection.ts";
import { deleteEntry } from "./entries.ts";
import { selectCount, selectPage } from "./filters.ts";

interface BundleRow {
  readonly row: number;
  readonly data: string;
}

export function createBundleStore(session: Session): BundleStore {
  return {
    get: (trustDomain) => session.read((connection) => findBundle(connection, trustDomain)),
    list: (page) =>
      session.read((connection) =>
        selectPage(connection, { columns: "row, data", table: "bundles", read: readBundle }, [], page),
      ),
    count: () => session.read((connection) => selectCount(connection, "bundles", [])),
    mutate: (trustDomain, change, version) =>
      session.write((connection) => {
        const before = findBundle(connection, trustDomain);
        const after = change(before);
        if (after === before) return after;
        connection
          .statement(
            `INSERT INTO bundles (trust_domain, data) VALUES (?, ?)
             ON CONFLICT (trust_domain) DO UPDATE SET data = excluded.data`,
          )
          .run(trustDomain, serializeBundle(after));
        if (version) keepVersions(connection, before, { ...version, bundle: after });
        recordChange(connection, "bundle", trustDomain);
        return after;
      }),
    versions: (trustDomain) =>
      session.read((connection) =>
        connection
          .statement<VersionRow>(
            `SELECT recorded_at, reason, data FROM bundle_versions
             WHERE trust_domain = ? ORDER BY sequence_number`,
          )
          .all(trustDomain)
          .map(readVersion),
      ),
    delete: (trustDomain, mode) =>
      session.write((connection) => {
        if (!findBundle(connection, trustDomain)) throw new SpireError("NOT_FOUND", "bundle not found");
        releaseEntries(connection, trustDomain, mode);
        connection.statement("DELETE FROM bundles WHERE trust_domain = ?").run(trustDomain);
        connection.statement("DELETE FROM bundle_versions WHERE trust_domain = ?").run(trustDomain);
        recordChange(connection, "bundle", trustDomain);
      }),
  };
}

/** What stood before is added where nobody has kept it: a database may be older than its versions. */
function keepVersions(connection: Connection, before: TrustBundle | undefined, after: BundleVersion): void {
  const insert = (conflict: string, { bundle, recordedAt, reason }: BundleVersion) =>
    connection
      .statement(
        `INSERT INTO bundle_versions (trust_domain, sequence_number, recorded_at, reason, data)
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (trust_domain, sequence_number) ${conflict}`,
      )
      .run(bundle.trustDomain, bundle.sequenceNumber, recordedAt, reason, serializeBundle(bundle));
  if (before) insert("DO NOTHING", { bundle: before, recordedAt: 0, reason: "" });
  insert(
    "DO UPDATE SET recorded_at = excluded.recorded_at, reason = excluded.reason, data = excluded.data",
    after,
  );
  connection
    .statement(
      `DELETE FROM bundle_versions WHERE trust_domain = ?1 AND sequence_number <=
         (SELECT sequence_number FROM bundle_versions WHERE trust_domain = ?1
          ORDER BY sequence_number DESC LIMIT 1 OFFSET ?2)`,
    )
    .run(after.bundle.trustDomain, keptVersions);
}

interface VersionRow {
  readonly recorded_at: number;
  readonly reason: string;
  readonly data: string;
}

const readVersion = ({ recorded_at, reason, data }: VersionRow): BundleVersion => ({
  recordedAt: recorded_at,
  reason,
  bundle: deserializeBundle(data),
});

/** Sees to it that no entry federates with the trust domain any more, or refuses. */
function releaseEntries(connection: Connection, trustDomain: TrustDomain, mode: BundleDeleteMode): void {
  const entries = connection
    .statement<{ row: number; id: string }>(
      `SELECT row, id FROM entries WHERE row IN
         (SELECT entry FROM entry_federation WHERE trust_domain = ?) ORDER BY row`,
    )
    .all(trustDomain);
  if (mode === "restrict" && entries.length > 0) {
    throw new SpireError(
      "FAILED_PRECONDITION",
      `cannot delete bundle; federated with ${entries.length} registration entries`,
    );
  }
  const unlink = connection.statement("DELETE FROM entry_federation WHERE entry = ? AND trust_domain = ?");
  const revise = connection.statement(
    "UPDATE entries SET revision_number = revision_number + 1 WHERE row = ?",
  );
  for (const { row, id } of entries) {
    if (mode === "delete") {
      deleteEntry(connection, id);
      continue;
    }
    unlink.run(row, trustDomain);
    // Agents tell by the revision that they hold an outdated entry.
    revise.run(row);
    recordChange(connection, "entry", id);
  }
}

function findBundle(connection: Connection, trustDomain: TrustDomain): TrustBundle | undefined {
  const stored = connection
    .statement<BundleRow>("SELECT row, data FROM bundles WHERE trust_domain = ?")
    .get(trustDomain);
  return stored ? readBundle(stored) : undefined;
}

const readBundle = ({ data }: BundleRow): TrustBundle => deserializeBundle(data);
