/** Registration entries as files hold them (`entry create -data`): SPIRE's JSON, or what another format has in its place. */
import { invalidArgument, SpireError } from "../core/errors.ts";
import { parseSpiffeId, pathOf, trustDomainOf } from "../core/spiffe-id.ts";
import { Entry } from "../rpc/gen/spire/api/types/entry.ts";
import type { Selector } from "../rpc/gen/spire/api/types/selector.ts";
import type { SPIFFEID } from "../rpc/gen/spire/api/types/spiffeid.ts";
import { nearest } from "./flags.ts";
import { quote } from "./go-text.ts";

/** Splits at the first colon; whether type and value are acceptable is for the server to say. */
export function splitSelector(text: string): Selector {
  const colon = text.indexOf(":");
  if (colon < 0) throw invalidArgument(`selector ${quote(text)} must be formatted as type:value`);
  return { type: text.slice(0, colon), value: text.slice(colon + 1) };
}

/** @throws SpireError INVALID_ARGUMENT with the rule that is broken. */
export function spiffeIdMessage(text: string): SPIFFEID {
  const id = parseSpiffeId(text);
  return { trustDomain: trustDomainOf(id), path: pathOf(id) };
}

export const formatIdMessage = (id: SPIFFEID | undefined): string =>
  id ? `spiffe://${id.trustDomain}${id.path}` : "";

export interface EntryDocument {
  readonly entries: readonly Entry[];
  /** Where each unknown field stands; they are ignored, as in SPIRE. */
  readonly warnings: readonly string[];
}

type Fields = Readonly<Record<string, unknown>>;

interface Reader {
  text(name: string): string;
  number(name: string): number;
  int32(name: string): number;
  flag(name: string): boolean;
  list(name: string): readonly unknown[];
  fields(name: string): Fields | undefined;
}

const documentFields = ["entries"];
const entryFields = [
  "selectors",
  "parent_id",
  "spiffe_id",
  "x509_svid_ttl",
  "jwt_svid_ttl",
  "federates_with",
  "entry_id",
  "admin",
  "downstream",
  "entry_expiry",
  "dns_names",
  "revision_number",
  "store_svid",
  "hint",
  "created_at",
  "additional_attributes",
];
const attributeFields = ["disable_x509_svid_prefetch", "jwt_svid_include_jti"];

/**
 * @throws SpireError INVALID_ARGUMENT that says where the document is wrong.
 */
export function readEntryDocument(document: unknown): EntryDocument {
  const warnings: string[] = [];
  const fields = asFields(document, "the document");
  warnUnknown(fields, documentFields, "", warnings);
  const entries = reader(fields, "")
    .list("entries")
    .map((item, index) => {
      const where = `entries[${index}].`;
      const entry = asFields(item, where.slice(0, -1));
      warnUnknown(entry, entryFields, where, warnings);
      return readEntry(reader(entry, where), where, warnings);
    });
  return { entries, warnings };
}

/** @throws SpireError INVALID_ARGUMENT for text that is no JSON. */
export function parseEntryJson(text: string): EntryDocument {
  return readEntryDocument(parseJson(text));
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SpireError("INVALID_ARGUMENT", `unable to parse JSON: ${reason}`, { cause: error });
  }
}

function readEntry(read: Reader, where: string, warnings: string[]): Entry {
  const attributes = read.fields("additional_attributes");
  if (attributes) warnUnknown(attributes, attributeFields, `${where}additional_attributes.`, warnings);
  const attribute = attributes && reader(attributes, `${where}additional_attributes.`);
  return Entry.fromPartial({
    id: read.text("entry_id"),
    spiffeId: within("invalid SPIFFE ID", () => spiffeIdMessage(read.text("spiffe_id"))),
    parentId: within("invalid parent ID", () => spiffeIdMessage(read.text("parent_id"))),
    selectors: read.list("selectors").map((item, index) => readSelector(item, `${where}selectors[${index}]`)),
    x509SvidTtl: read.int32("x509_svid_ttl"),
    jwtSvidTtl: read.int32("jwt_svid_ttl"),
    federatesWith: readTexts(read.list("federates_with"), `${where}federates_with`),
    dnsNames: readTexts(read.list("dns_names"), `${where}dns_names`),
    admin: read.flag("admin"),
    downstream: read.flag("downstream"),
    storeSvid: read.flag("store_svid"),
    expiresAt: read.number("entry_expiry"),
    hint: read.text("hint"),
    ...(attribute && {
      additionalAttributes: {
        disableX509SvidPrefetch: attribute.flag("disable_x509_svid_prefetch"),
        jwtSvidIncludeJti: attribute.flag("jwt_svid_include_jti"),
      },
    }),
  });
}

/** `{"type": …, "value": …}`, or the `type:value` of the commands. */
function readSelector(item: unknown, where: string): Selector {
  if (typeof item === "string") return splitSelector(item);
  const read = reader(asFields(item, where), `${where}.`);
  return { type: read.text("type"), value: read.text("value") };
}

function readTexts(items: readonly unknown[], where: string): string[] {
  return items.map((item, index) => {
    if (typeof item === "string") return item;
    throw invalidArgument(`${where}[${index}] must be a string`);
  });
}

function within<T>(context: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}

function asFields(value: unknown, where: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw invalidArgument(`${where} must be an object`);
}

/** Names are matched without regard to case, as Go's JSON does; null is the same as not there. */
function reader(fields: Fields, where: string): Reader {
  const byName = new Map(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));
  const get = <T>(name: string, empty: T, kind: string, is: (value: unknown) => value is T): T => {
    const value = byName.get(name) ?? empty;
    if (is(value)) return value;
    throw invalidArgument(`${where}${name} must be ${kind}`);
  };
  const isFields = (value: unknown): value is Fields | undefined =>
    value === undefined || (typeof value === "object" && !Array.isArray(value));
  return {
    text: (name) => get(name, "", "a string", (value) => typeof value === "string"),
    number: (name) => get(name, 0, "a whole number", (value): value is number => Number.isSafeInteger(value)),
    int32: (name) =>
      get(
        name,
        0,
        "a whole number of 32 bits",
        (value): value is number => Math.trunc(Number(value) % 2 ** 31) === value,
      ),
    flag: (name) => get(name, false, "true or false", (value) => typeof value === "boolean"),
    list: (name) => get<readonly unknown[]>(name, [], "a list", Array.isArray),
    fields: (name) => get<Fields | undefined>(name, undefined, "an object", isFields),
  };
}

function warnUnknown(fields: Fields, known: readonly string[], where: string, warnings: string[]): void {
  for (const name of Object.keys(fields)) {
    if (known.includes(name.toLowerCase())) continue;
    const near = nearest(name, known);
    warnings.push(`unknown field ${where}${name} is ignored${near ? `, did you mean ${near}?` : ""}`);
  }
}
