/** The CA journal: which authority lives in which key slot, so that a restarted server goes on with its keys. */
import { type Logger, nullLogger } from "../core/log.ts";
import type { JournalStore } from "../plugins/datastores/index.ts";

/** What an authority signs. */
export type AuthorityKind = "x509" | "jwt" | "wit";

/** All of them; a server has no authority of kind wit unless it issues WIT-SVIDs. */
export const authorityKinds: readonly AuthorityKind[] = ["x509", "jwt", "wit"];

/** Each kind has two keys: one in use, one that comes next or was before. */
export type Slot = "A" | "B";

export type AuthorityStatus = "prepared" | "active" | "old";

export interface JournalEntry {
  readonly slot: Slot;
  /** X.509: the subject key identifier in lowercase hex. Tokens: the key ID. */
  readonly authorityId: string;
  readonly status: AuthorityStatus;
  /** Unix seconds. */
  readonly issuedAt: number;
  /** Unix seconds. */
  readonly notAfter: number;
  /** DER: the certificate of an X.509 authority, the SubjectPublicKeyInfo of a token authority. */
  readonly der: Uint8Array;
  /** DER: certificates between this authority and the bundle's root; empty unless an upstream authority signed. */
  readonly upstreamChain: readonly Uint8Array[];
}

export interface JournalChange {
  readonly kind: AuthorityKind;
  readonly entry: JournalEntry;
}

export interface Journal {
  /** Oldest first. */
  entries(kind: AuthorityKind): readonly JournalEntry[];
  /**
   * Adds entries, or replaces those with the same authority ID. Durable when this resolves, unless no X.509
   * authority was ever active: a journal is found by that, so it is written with the first activation.
   */
  write(changes: readonly JournalChange[]): Promise<void>;
}

/** Entries kept of each kind. */
const longestHistory = 10;

/**
 * Finds the journal that goes with the X.509 keys at hand; an empty one when there is none.
 *
 * @param x509AuthorityIds authority IDs of all X.509 keys that the key manager holds.
 */
export async function openJournal(
  journals: JournalStore,
  x509AuthorityIds: readonly string[],
  log: Logger,
): Promise<Journal> {
  const record = x509AuthorityIds.length > 0 ? await journals.find(x509AuthorityIds) : undefined;
  let content = record === undefined ? noEntries : parseJournal(record.data, log);
  let recordedUnder = record?.activeX509AuthorityId;
  if (!record) log.info("There is not a CA journal record that matches any of the local X509 authority IDs");
  const { x509, jwt, wit } = content;
  log.info("Journal loaded", { x509_cas: x509.length, jwt_keys: jwt.length, wit_keys: wit.length });

  return {
    entries: (kind) => content[kind],
    async write(changes) {
      const next = { ...content };
      for (const { kind, entry } of changes) next[kind] = withEntry(next[kind], entry);
      // An earlier one stays active on paper when it was lost before its successor came into force.
      const active = next.x509.findLast(({ status }) => status === "active")?.authorityId;
      if (active !== undefined) {
        if (recordedUnder === undefined) log.info("Creating a new CA journal entry");
        await journals.put({ activeX509AuthorityId: active, data: formatJournal(next) }, recordedUnder);
        recordedUnder = active;
      }
      content = next;
    },
  };
}

type Content = Readonly<Record<AuthorityKind, readonly JournalEntry[]>>;

const noEntries: Content = { x509: [], jwt: [], wit: [] };

function withEntry(entries: readonly JournalEntry[], entry: JournalEntry): readonly JournalEntry[] {
  const at = entries.findIndex(({ authorityId }) => authorityId === entry.authorityId);
  return at < 0 ? [...entries, entry].slice(-longestHistory) : entries.with(at, entry);
}

const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
const fromBase64 = (text: string): Uint8Array => Buffer.from(text, "base64");

/** Without authorities of kind wit, the text is that of a program which knows of none. */
export const formatJournal = ({ x509, jwt, wit }: Content): string =>
  JSON.stringify({
    x509: x509.map(formatEntry),
    jwt: jwt.map(formatEntry),
    ...(wit.length > 0 ? { wit: wit.map(formatEntry) } : {}),
  });

const formatEntry = (entry: JournalEntry) => ({
  ...entry,
  der: toBase64(entry.der),
  upstreamChain: entry.upstreamChain.map(toBase64),
});

/** When the last of a journal's authorities ends, in unix seconds; undefined when it has none that can be read. */
export function endOfJournal(text: string): number | undefined {
  const entries = Object.values(parseJournal(text, nullLogger)).flat();
  return entries.length > 0 ? Math.max(...entries.map(({ notAfter }) => notAfter)) : undefined;
}

/** Entries that make no sense are left out: at worst the server makes a new authority. */
function parseJournal(text: string, log: Logger): Content {
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch (error) {
    log.warn("CA journal can't be read; new authorities will be made", { error });
    return noEntries;
  }
  const list = (kind: AuthorityKind): readonly JournalEntry[] => {
    const found: unknown = isObject(stored) ? stored[kind] : undefined;
    return Array.isArray(found) ? found.flatMap(parseEntry) : [];
  };
  return { x509: list("x509"), jwt: list("jwt"), wit: list("wit") };
}

function parseEntry(stored: unknown): JournalEntry[] {
  if (!isObject(stored)) return [];
  const { slot, authorityId, status, issuedAt, notAfter, der, upstreamChain } = stored;
  if (slot !== "A" && slot !== "B") return [];
  if (status !== "prepared" && status !== "active" && status !== "old") return [];
  if (typeof authorityId !== "string" || typeof der !== "string") return [];
  if (typeof issuedAt !== "number" || typeof notAfter !== "number") return [];
  const chain = Array.isArray(upstreamChain) ? upstreamChain.map(String).map(fromBase64) : [];
  return [{ slot, authorityId, status, issuedAt, notAfter, der: fromBase64(der), upstreamChain: chain }];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;
