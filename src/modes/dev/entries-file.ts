/** The entries file: SPIRE's `entry create -data` format as JSON or YAML, with the place of whatever is wrong. */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type YAMLMap,
} from "yaml";
import type { EntryDraft } from "../../core/entry.ts";
import { invalidArgument, SpireError } from "../../core/errors.ts";
import {
  parseSelector,
  type Selector,
  selectorSetKey,
  sortSelectors,
  validateSelector,
} from "../../core/selector.ts";
import { parseTrustDomainOrId } from "../../core/spiffe-id.ts";
import { declareEntry, type EntryOwner, resolveId, resolveWorkloadId } from "./declared-entries.ts";

/** An entry of a file. */
export interface FileEntry {
  readonly draft: EntryDraft;
  /** Whether the file names its ID; otherwise `draft.id` is a new one. */
  readonly hasId: boolean;
  /** `file:line:column` of the entry. */
  readonly place: string;
}

export interface EntriesFile {
  readonly entries: readonly FileEntry[];
  /** What was read past, such as unknown fields, each with its place. */
  readonly warnings: readonly string[];
}

type Fields = { -readonly [K in keyof EntryDraft]?: EntryDraft[K] };

/** Reads one file: resolves aliases, and says where an error is. */
interface Reader {
  readonly owner: EntryOwner;
  readonly warnings: string[];
  resolve(node: unknown): unknown;
  place(node: unknown): string;
  fail(node: unknown, message: string): SpireError;
}

/** How each field of an entry is read; the names are those of SPIRE's legacy JSON. */
const entryFields: Readonly<Record<string, (read: Reader, node: unknown, into: Fields) => void>> = {
  entry_id: (read, node, into) => {
    into.id = textOf(read, node);
    if (!/^[A-Za-z0-9._-]{1,255}$/.test(into.id)) {
      throw read.fail(node, "entry_id must be 1 to 255 letters, numbers, dots, dashes, underscores");
    }
  },
  spiffe_id: (read, node, into) => {
    into.spiffeId = resolveWorkloadId(textOf(read, node), read.owner.trustDomain);
  },
  parent_id: (read, node, into) => {
    const text = textOf(read, node);
    if (text !== "") into.parentId = resolveId(text, read.owner.trustDomain);
  },
  selectors: (read, node, into) => {
    into.selectors = sortSelectors(listOf(read, node, selectorOf));
  },
  x509_svid_ttl: (read, node, into) => {
    into.x509SvidTtl = wholeOf(read, node);
  },
  jwt_svid_ttl: (read, node, into) => {
    into.jwtSvidTtl = wholeOf(read, node);
  },
  federates_with: (read, node, into) => {
    into.federatesWith = listOf(read, node, (_, item) => parseTrustDomainOrId(textOf(read, item)));
  },
  admin: (read, node, into) => {
    into.admin = switchOf(read, node);
  },
  downstream: (read, node, into) => {
    into.downstream = switchOf(read, node);
  },
  entry_expiry: (read, node, into) => {
    into.expiresAt = wholeOf(read, node);
  },
  dns_names: (read, node, into) => {
    into.dnsNames = listOf(read, node, textOf);
  },
  store_svid: (read, node, into) => {
    into.storeSvid = switchOf(read, node);
  },
  hint: (read, node, into) => {
    into.hint = textOf(read, node);
  },
  additional_attributes: (read, node, into) => {
    readFields(read, mapOf(read, node), additionalFields, into);
  },
};

const additionalFields: typeof entryFields = {
  disable_x509_svid_prefetch: (read, node, into) => {
    into.disableX509SvidPrefetch = switchOf(read, node);
  },
  jwt_svid_include_jti: (read, node, into) => {
    into.jwtSvidIncludeJti = switchOf(read, node);
  },
};

/**
 * Parses the text of an entries file: `{"entries": [...]}`. JSON is read as the YAML that it is. Beyond SPIRE's
 * format an ID may be a path, a selector may be written `type:value`, and a missing parent is the dev agent.
 * @param name how errors call the file.
 * @throws SpireError INVALID_ARGUMENT that begins with `name:line:column:`.
 */
export function parseEntriesFile(text: string, name: string, owner: EntryOwner): EntriesFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${Math.max(1, line)}:${Math.max(1, col)}`;
  };
  const [broken] = document.errors;
  if (broken) throw invalidArgument(`${at(broken.pos[0])}: ${broken.message}`);
  const read = createReader(document, at, owner);
  const root = mapOf(read, document.contents);
  const list = root.items.find((pair) => keyOf(pair.key) === "entries")?.value;
  for (const pair of root.items) {
    if (keyOf(pair.key) !== "entries") warnUnknown(read, pair.key, ["entries"]);
  }
  const entries = isNothing(read.resolve(list)) ? [] : listOf(read, list, readEntry);
  refuseDoubles(entries);
  return { entries, warnings: read.warnings };
}

function createReader(document: Document.Parsed, at: (offset: number) => string, owner: EntryOwner): Reader {
  const place = (node: unknown) => at((isNode(node) ? node.range?.[0] : undefined) ?? 0);
  return {
    owner,
    warnings: [],
    resolve: (node) => (isAlias(node) ? node.resolve(document) : node),
    place,
    fail: (node, message) => invalidArgument(`${place(node)}: ${message}`),
  };
}

const isNode = (value: unknown): value is Node =>
  typeof value === "object" && value !== null && "range" in value;

function readEntry(read: Reader, node: unknown): FileEntry {
  const map = mapOf(read, node);
  const fields: Fields = {};
  readFields(read, map, entryFields, fields);
  if (fields.spiffeId === undefined) throw read.fail(map, "spiffe_id is missing");
  if (fields.selectors === undefined || fields.selectors.length === 0) {
    throw read.fail(map, "selectors are missing: an entry needs at least one");
  }
  const draft = { ...declareEntry(fields.spiffeId, fields.selectors, read.owner), ...fields };
  return { draft, hasId: fields.id !== undefined, place: read.place(map) };
}

function readFields(read: Reader, map: YAMLMap, known: typeof entryFields, into: Fields): void {
  for (const { key, value } of map.items) {
    const name = keyOf(key);
    const field = Object.hasOwn(known, name) ? known[name] : undefined;
    if (!field) {
      warnUnknown(read, key, Object.keys(known));
      continue;
    }
    const node = read.resolve(value);
    // As in Go's JSON, null leaves a field as it is.
    if (isNothing(node)) continue;
    try {
      field(read, node, into);
    } catch (error) {
      throw placed(read, node, name, error);
    }
  }
}

/** Rules of core know no place; what fails here does already. */
function placed(read: Reader, node: unknown, field: string, error: unknown): SpireError {
  const known = SpireError.from(error);
  return placePattern.test(known.message) ? known : read.fail(node, `${field}: ${known.message}`);
}

const placePattern = /^.*?:\d+:\d+: /;

/** SPIRE reads past unknown fields; a known one in another spelling is a mistake. */
function warnUnknown(read: Reader, key: unknown, known: readonly string[]): void {
  const plain = (name: string) => name.replace(/[_-]/g, "").toLowerCase();
  const near = known.find((name) => plain(name) === plain(keyOf(key)));
  if (near) throw read.fail(key, `unknown field "${keyOf(key)}", did you mean "${near}"?`);
  read.warnings.push(`${read.place(key)}: unknown field "${keyOf(key)}" is ignored`);
}

const isNothing = (node: unknown): boolean =>
  node === undefined || node === null || (isScalar(node) && node.value === null);

const keyOf = (key: unknown): string => String(isScalar(key) ? key.value : key);

function mapOf(read: Reader, node: unknown): YAMLMap {
  const map = read.resolve(node);
  if (isMap(map)) return map;
  throw read.fail(map, `must be an object${node === null ? ' with a list "entries"' : ""}`);
}

function listOf<T>(read: Reader, node: unknown, item: (read: Reader, node: unknown) => T): T[] {
  const list = read.resolve(node);
  if (!isSeq(list)) throw read.fail(list, "must be a list");
  return list.items.map((element) => {
    try {
      return item(read, element);
    } catch (error) {
      throw placePattern.test(SpireError.from(error).message)
        ? error
        : read.fail(element, SpireError.from(error).message);
    }
  });
}

function scalarOf(read: Reader, node: unknown): unknown {
  const scalar = read.resolve(node);
  return isScalar(scalar) ? scalar.value : undefined;
}

function textOf(read: Reader, node: unknown): string {
  const value = scalarOf(read, node);
  if (typeof value !== "string") throw read.fail(node, "must be text (in quotes, if it looks like a number)");
  return value;
}

function wholeOf(read: Reader, node: unknown): number {
  const value = scalarOf(read, node);
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw read.fail(node, "must be a whole number, 0 or more");
  }
  return value;
}

function switchOf(read: Reader, node: unknown): boolean {
  const value = scalarOf(read, node);
  if (typeof value !== "boolean") throw read.fail(node, "must be true or false");
  return value;
}

function selectorOf(read: Reader, node: unknown): Selector {
  const item = read.resolve(node);
  if (isScalar(item)) return parseSelector(textOf(read, item));
  const map = mapOf(read, item);
  const part = (name: string) => {
    const pair = map.items.find(({ key }) => keyOf(key) === name);
    return pair ? textOf(read, pair.value) : "";
  };
  return validateSelector({ type: part("type"), value: part("value") });
}

function refuseDoubles(entries: readonly FileEntry[]): void {
  const places = new Map<string, string>();
  for (const { draft, hasId, place } of entries) {
    const keys = [entryKey(draft), ...(hasId ? [`entry_id ${draft.id}`] : [])];
    for (const key of keys) {
      const first = places.get(key);
      if (first) throw invalidArgument(`${place}: the same entry stands at ${first}`);
      places.set(key, place);
    }
  }
}

/** Equal exactly for entries that a server takes for the same: SPIFFE ID, parent and set of selectors. */
export const entryKey = (entry: Pick<EntryDraft, "spiffeId" | "parentId" | "selectors">): string =>
  `${entry.spiffeId} ${entry.parentId} ${selectorSetKey(entry.selectors)}`;
