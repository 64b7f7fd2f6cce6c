/** Federation relationships in SQLite. */
import { SpireError } from "../../../core/errors.ts";
import { endpointIdOf, type FederationRelationship } from "../../../core/federation.ts";
import { parseSpiffeId, parseTrustDomain } from "../../../core/spiffe-id.ts";
import type { FederationStore } from "../index.ts";
import type { Session } from "./connection.ts";
import { selectPage } from "./filters.ts";

interface RelationshipRow {
  readonly row: number;
  readonly trust_domain: string;
  readonly bundle_endpoint_url: string;
  readonly bundle_endpoint_profile: string;
  /** Empty for https_web. */
  readonly endpoint_spiffe_id: string;
}

const table = "federation_relationships";
const columns = "row, trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id";

export function createFederationStore(session: Session): FederationStore {
  return {
    get: (trustDomain) =>
      session.read((connection) => {
        const row = connection
          .statement<RelationshipRow>(`SELECT ${columns} FROM ${table} WHERE trust_domain = ?`)
          .get(trustDomain);
        return row ? readRelationship(row) : undefined;
      }),
    list: (page) =>
      session.read((connection) =>
        selectPage(connection, { columns, table, read: readRelationship }, [], page),
      ),
    create: (relationship) =>
      session.write((connection) => {
        const { changes } = connection
          .statement(
            `INSERT INTO ${table}
               (bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id, trust_domain)
             VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
          )
          .run(...valuesOf(relationship));
        if (changes > 0) return;
        const message = `a relationship with trust domain "${relationship.trustDomain}" exists already`;
        throw new SpireError("ALREADY_EXISTS", message);
      }),
    update: (relationship) =>
      session.write((connection) => {
        const { changes } = connection
          .statement(
            `UPDATE ${table} SET bundle_endpoint_url = ?, bundle_endpoint_profile = ?, endpoint_spiffe_id = ?
             WHERE trust_domain = ?`,
          )
          .run(...valuesOf(relationship));
        return changes > 0;
      }),
    delete: (trustDomain) =>
      session.write((connection) => {
        const { changes } = connection
          .statement(`DELETE FROM ${table} WHERE trust_domain = ?`)
          .run(trustDomain);
        return changes > 0;
      }),
  };
}

const valuesOf = ({ trustDomain, bundleEndpointUrl, profile }: FederationRelationship): string[] => [
  bundleEndpointUrl,
  profile.type,
  endpointIdOf(profile),
  trustDomain,
];

/** @throws SpireError DATA_LOSS for a profile that isn't known. */
function readRelationship(row: RelationshipRow): FederationRelationship {
  return {
    trustDomain: parseTrustDomain(row.trust_domain),
    bundleEndpointUrl: row.bundle_endpoint_url,
    profile: readProfile(row),
  };
}

function readProfile(row: RelationshipRow): FederationRelationship["profile"] {
  if (row.bundle_endpoint_profile === "https_web") return { type: "https_web" };
  if (row.bundle_endpoint_profile === "https_spiffe") {
    return { type: "https_spiffe", endpointSpiffeId: parseSpiffeId(row.endpoint_spiffe_id) };
  }
  throw new SpireError("DATA_LOSS", `unknown bundle endpoint profile "${row.bundle_endpoint_profile}"`);
}
