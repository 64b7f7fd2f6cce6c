/** Entries, agents, relationships and join tokens of a stock server, one by one into a store. */
import type { EntryDraft } from "../../core/entry.ts";
import { SpireError } from "../../core/errors.ts";
import type { AttestedNode } from "../../core/node.ts";
import { isAgentId, parseSpiffeId, parseTrustDomainOrId, type TrustDomain } from "../../core/spiffe-id.ts";
import type { Store } from "../../plugins/datastores/index.ts";
import { checkFields, checkTogether, requireMember } from "../../server/entry-rules.ts";
import type { StockDatabase, StoredEntry, StoredNode } from "./stock-database.ts";
import { parseDate, readStoredAttributes, readStoredRelationship } from "./stock-values.ts";

/** Something that was not taken over, or not as it was. */
export interface Remark {
  readonly kind: "entry" | "agent" | "bundle" | "federation relationship" | "join token" | "authorities";
  /** Entry ID, agent ID, trust domain; empty for tokens, which are secret. */
  readonly id: string;
  readonly reason: string;
}

/** What everything is taken over under, and where it is told what was not. */
export interface Change {
  readonly trustDomain: TrustDomain;
  /** Unix seconds. */
  readonly now: number;
  skip(remark: Remark): void;
  change(remark: Remark): void;
}

type Groups = Omit<Store, "transaction" | "close">;

const reasonFor = (error: unknown): string => SpireError.from(error).message.replace(/\s*\n\s*/g, "; ");

export interface EntryContext {
  /** Those that were taken over. */
  readonly bundles: ReadonlySet<TrustDomain>;
  /** Filled: entry ID > revision, where it isn't 0. */
  readonly revisions: Map<string, number>;
}

/** @returns how many. */
export async function takeEntries(
  stock: StockDatabase,
  groups: Groups,
  change: Change,
  context: EntryContext,
): Promise<number> {
  let taken = 0;
  for (const stored of stock.entries()) {
    const id = stored.entry_id;
    try {
      const draft = readEntry(stored, change, context);
      const [outcome] = await groups.entries.create([draft], parseDate(stored.created_at));
      if (!outcome || "error" in outcome) throw outcome?.error;
      if (outcome.existing) {
        change.skip({ kind: "entry", id, reason: `it says the same as entry ${outcome.entry.id}` });
        continue;
      }
      if (stored.revision_number) context.revisions.set(id, stored.revision_number);
      taken += 1;
    } catch (error) {
      change.skip({
        kind: "entry",
        id,
        reason: reasonFor(error).replace(/^failed to (convert|create) entry: /, ""),
      });
    }
  }
  return taken;
}

function readEntry(stored: StoredEntry, change: Change, { bundles }: EntryContext): EntryDraft {
  const attributes = readStoredAttributes(stored.additional_attributes);
  const draft: EntryDraft = {
    id: stored.entry_id,
    spiffeId: parseSpiffeId(stored.spiffe_id),
    parentId: parseSpiffeId(stored.parent_id),
    selectors: stored.selectors,
    x509SvidTtl: stored.ttl ?? 0,
    jwtSvidTtl: stored.jwt_svid_ttl ?? 0,
    federatesWith: readFederation(stored, change, bundles),
    admin: stored.admin === 1,
    downstream: stored.downstream === 1,
    expiresAt: stored.expiry ?? 0,
    dnsNames: stored.dnsNames,
    storeSvid: stored.store_svid === 1,
    hint: stored.hint ?? "",
    disableX509SvidPrefetch: attributes.disableX509SvidPrefetch,
    jwtSvidIncludeJti: attributes.jwtSvidIncludeJti,
  };
  // An entry that has expired is for the server to prune.
  const rules = { trustDomain: change.trustDomain, now: 0, operation: "create" } as const;
  checkFields(draft, rules);
  checkTogether(draft, rules);
  return draft;
}

function readFederation(
  { entry_id: id, federatesWith }: StoredEntry,
  { trustDomain, change }: Change,
  bundles: ReadonlySet<TrustDomain>,
): readonly TrustDomain[] {
  return federatesWith.flatMap((text) => {
    const other = parseTrustDomainOrId(text);
    if (other === trustDomain) {
      change({ kind: "entry", id, reason: "it does not federate with its own trust domain any more" });
      return [];
    }
    if (bundles.has(other)) return [other];
    change({
      kind: "entry",
      id,
      reason: `it does not federate with "${other}" any more, whose bundle was not taken`,
    });
    return [];
  });
}

export async function takeNodes(
  stock: StockDatabase,
  groups: Groups,
  change: Change,
): Promise<{ agents: number; bannedAgents: number }> {
  let agents = 0;
  let bannedAgents = 0;
  for (const stored of stock.nodes()) {
    try {
      const node = readNode(stored, change.trustDomain);
      await groups.nodes.put(node);
      agents += 1;
      if (node.serialNumber === "") bannedAgents += 1;
    } catch (error) {
      change.skip({ kind: "agent", id: stored.spiffe_id, reason: reasonFor(error) });
    }
  }
  return { agents, bannedAgents };
}

function readNode(stored: StoredNode, trustDomain: TrustDomain): AttestedNode {
  const id = requireMember(parseSpiffeId(stored.spiffe_id), trustDomain);
  if (!isAgentId(id)) throw new SpireError("INVALID_ARGUMENT", "it is not an agent's ID");
  return {
    id,
    attestationType: stored.data_type,
    serialNumber: stored.serial_number,
    expiresAt: parseDate(stored.expires_at),
    newSerialNumber: stored.new_serial_number ?? "",
    newExpiresAt: parseDate(stored.new_expires_at),
    canReattest: stored.can_reattest === 1,
    agentVersion: stored.agent_version ?? "",
    selectors: stored.selectors,
  };
}

/** @returns how many. */
export async function takeRelationships(
  stock: StockDatabase,
  groups: Groups,
  change: Change,
): Promise<number> {
  let taken = 0;
  for (const stored of stock.relationships()) {
    try {
      const relationship = readStoredRelationship(stored);
      if (relationship.trustDomain === change.trustDomain) {
        throw new SpireError("INVALID_ARGUMENT", "it is with the own trust domain");
      }
      await groups.federation.create(relationship);
      taken += 1;
    } catch (error) {
      change.skip({ kind: "federation relationship", id: stored.trust_domain, reason: reasonFor(error) });
    }
  }
  return taken;
}

/** Tokens are secret, so those that are left out are told by their number. @returns how many were taken. */
export async function takeTokens(stock: StockDatabase, groups: Groups, change: Change): Promise<number> {
  const tokens = stock.joinTokens();
  const valid = tokens.filter(({ expiry }) => expiry > change.now);
  for (const { token, expiry } of valid) await groups.joinTokens.create({ token, expiresAt: expiry });
  const expired = tokens.length - valid.length;
  if (expired > 0) change.skip({ kind: "join token", id: "", reason: `${expired} of them have expired` });
  return valid.length;
}
