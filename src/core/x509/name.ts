/** X.509 names (RFC 5280, 4.1.2.4) as SPIRE's Go library reads, orders and writes them. */
import { DerReader, encode, encodeOid, readOid, readOnly, tags } from "./der.ts";

/** Attributes of id-at (2.5.4): name here, last arc, short name; in the order in which they are encoded. */
const attributes = [
  { name: "country", arc: 6, short: "C" },
  { name: "province", arc: 8, short: "ST" },
  { name: "locality", arc: 7, short: "L" },
  { name: "streetAddress", arc: 9, short: "STREET" },
  { name: "postalCode", arc: 17, short: "POSTALCODE" },
  { name: "organization", arc: 10, short: "O" },
  { name: "organizationalUnit", arc: 11, short: "OU" },
  { name: "commonName", arc: 3, short: "CN" },
  { name: "serialNumber", arc: 5, short: "SERIALNUMBER" },
] as const;

type AttributeName = (typeof attributes)[number]["name"];

/** An attribute that has no name here. */
export interface ExtraName {
  /** Dotted. */
  readonly oid: string;
  readonly value: string;
}

/** Values by attribute; several values of one attribute share one RDN. Extra ones come last, each by itself. */
export type Name = { readonly [K in AttributeName]?: readonly string[] } & {
  readonly extra?: readonly ExtraName[];
};

/** DER of a name. Texts are PrintableString where that can hold them, else UTF8String. */
export function encodeName(name: Name): Buffer {
  const rdns: Buffer[] = [];
  for (const { name: key, arc } of attributes) {
    const values = name[key] ?? [];
    if (values.length === 0) continue;
    const encoded = values.map((value) => encodeAttribute(`2.5.4.${arc}`, value));
    // X.690, 11.6: the members of a DER set are in ascending order of their encodings.
    rdns.push(encode(tags.set, ...encoded.sort(Buffer.compare)));
  }
  const extra = (name.extra ?? []).map(({ oid, value }) => encode(tags.set, encodeAttribute(oid, value)));
  return encode(tags.sequence, ...rdns, ...extra);
}

const encodeAttribute = (oid: string, value: string): Buffer =>
  encode(tags.sequence, encodeOid(oid), encodeText(value));

const printable = /^[A-Za-z0-9 '()+,\-./:=?]*$/;

const encodeText = (text: string): Buffer =>
  printable.test(text)
    ? encode(tags.printableString, Buffer.from(text, "latin1"))
    : encode(tags.utf8String, Buffer.from(text, "utf8"));

interface Attribute {
  readonly oid: string;
  readonly text: string;
  readonly valueDer: Uint8Array;
}

function readAttributes(der: Uint8Array): Attribute[] {
  const found: Attribute[] = [];
  const rdns = new DerReader(readOnly(der).content);
  while (!rdns.done) {
    const rdn = rdns.enter(tags.set);
    do {
      const pair = rdn.enter();
      const oid = readOid(pair.read(tags.oid));
      const value = pair.next();
      pair.end();
      found.push({ oid, text: decodeText(value.tag, value.content), valueDer: value.raw });
    } while (!rdn.done);
  }
  return found;
}

const bmpString = 0x1e;

/** Latin-1 serves the byte-wise types (PrintableString, IA5String, T61String, …). */
function decodeText(tag: number, content: Uint8Array): string {
  const bytes = Buffer.from(content);
  if (tag === tags.utf8String) return bytes.toString("utf8");
  if (tag === bmpString && bytes.length % 2 === 0) return bytes.swap16().toString("utf16le");
  return bytes.toString("latin1");
}

const namedOids: ReadonlyMap<string, AttributeName> = new Map(
  attributes.map(({ name, arc }) => [`2.5.4.${arc}`, name]),
);

/**
 * The attributes that have a name here; others are dropped, as when Go writes a parsed subject again.
 * @throws SpireError INVALID_ARGUMENT
 */
export function decodeName(der: Uint8Array): Name {
  const name: { [K in AttributeName]?: string[] } = {};
  for (const { oid, text } of readAttributes(der)) {
    const key = namedOids.get(oid);
    if (key === "commonName" || key === "serialNumber") name[key] = [text];
    else if (key !== undefined) {
      name[key] ??= [];
      name[key].push(text);
    }
  }
  return name;
}

/**
 * A name in RFC 2253 form as Go prints it: last attribute first (`O=SPIRE,C=US`), several values of one
 * attribute joined by `+`, attributes that have no short name at the end as `<OID>=#<hex>`.
 * @throws SpireError INVALID_ARGUMENT
 */
export function formatSubject(subjectDer: Uint8Array): string {
  const known = decodeName(subjectDer);
  const parts = attributes
    .map(({ name, short }) => (known[name] ?? []).map((value) => `${short}=${escapeValue(value)}`).join("+"))
    .filter((part) => part !== "")
    .reverse();
  const others = readAttributes(subjectDer)
    .filter(({ oid }) => !namedOids.has(oid))
    .map(({ oid, valueDer }) => `${oid}=#${Buffer.from(valueDer).toString("hex")}`)
    .reverse();
  return [...parts, ...others].join(",");
}

const escapeValue = (value: string): string =>
  value.replace(/[,+"\\<>;]|^[# ]| $/g, (character) => `\\${character}`);
