/** Name constraints of CAs for URIs, DNS names and IP addresses (RFC 5280, 4.2.1.10; X509-SVID standard, 4.2). */
import { asciiText, constructed, type DerElement, DerReader, readOnly, tags } from "./der.ts";
import { type AlternativeNames, generalNameTags } from "./extensions.ts";

interface Subtrees {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** An address and a mask of the same length, one after the other. */
  readonly ipRanges: readonly Uint8Array[];
}

export interface NameConstraints {
  readonly permitted: Subtrees;
  readonly excluded: Subtrees;
  /** Whether there is a constraint on names of another type, which nobody here checks. */
  readonly hasOthers: boolean;
}

/** @throws SpireError INVALID_ARGUMENT */
export function readNameConstraints(value: Uint8Array): NameConstraints {
  const reader = new DerReader(readOnly(value).content);
  const permitted = readSubtrees(reader.optional(constructed(0))?.content);
  const excluded = readSubtrees(reader.optional(constructed(1))?.content);
  reader.end();
  return { permitted, excluded, hasOthers: permitted.hasOthers || excluded.hasOthers };
}

function readSubtrees(content: Uint8Array = new Uint8Array()): Subtrees & { hasOthers: boolean } {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  const ipRanges: Uint8Array[] = [];
  let hasOthers = false;
  for (const list = new DerReader(content); !list.done; ) {
    const subtree = new DerReader(list.read(tags.sequence).content);
    const base = subtree.next();
    // RFC 5280 wants minimum and maximum left out; with them, the subtree isn't understood.
    if (!subtree.done) hasOthers = true;
    else if (base.tag === generalNameTags.uri) uris.push(asciiText(base.content));
    else if (base.tag === generalNameTags.dns) dnsNames.push(asciiText(base.content));
    else if (isIpRange(base)) ipRanges.push(base.content);
    else hasOthers = true;
  }
  return { uris, dnsNames, ipRanges, hasOthers };
}

const isIpRange = ({ tag, content }: DerElement): boolean =>
  tag === generalNameTags.ip && (content.length === 8 || content.length === 32);

/** How many comparisons `findForbiddenName` may need: both numbers are of a stranger's choice. */
export const comparisonsOf = ({ permitted, excluded }: NameConstraints, names: AlternativeNames): number =>
  names.uris.length * (permitted.uris.length + excluded.uris.length) +
  names.dnsNames.length * (permitted.dnsNames.length + excluded.dnsNames.length) +
  names.ipAddresses.length * (permitted.ipRanges.length + excluded.ipRanges.length);

/** The first name that the constraints forbid; undefined when there is none. */
export function findForbiddenName(
  { permitted, excluded }: NameConstraints,
  names: AlternativeNames,
): string | undefined {
  const forbiddenIp = names.ipAddresses.find(
    (ip) => !passes(permitted.ipRanges, excluded.ipRanges, (range) => isInRange(ip, range)),
  );
  return (
    names.uris.find((uri) => !allows(permitted.uris, excluded.uris, hostOf(uri), matchesHost)) ??
    names.dnsNames.find((name) => !allows(permitted.dnsNames, excluded.dnsNames, name, matchesDomain)) ??
    (forbiddenIp && `IP address ${Buffer.from(forbiddenIp).toString("hex")}`)
  );
}

function allows(
  permitted: readonly string[],
  excluded: readonly string[],
  name: string,
  matches: (name: string, constraint: string) => boolean,
): boolean {
  const meets = (constraint: string) => matches(name.toLowerCase(), constraint.toLowerCase());
  return passes(permitted, excluded, meets);
}

const passes = <T>(
  permitted: readonly T[],
  excluded: readonly T[],
  meets: (constraint: T) => boolean,
): boolean => (permitted.length === 0 || permitted.some(meets)) && !excluded.some(meets);

/** An address of the other family lies in no range. */
function isInRange(ip: Uint8Array, range: Uint8Array): boolean {
  if (range.length !== 2 * ip.length) return false;
  return ip.every((byte, at) => {
    const mask = range[ip.length + at] ?? 0;
    return (byte & mask) === ((range[at] ?? 0) & mask);
  });
}

const hostOf = (uri: string): string => /^[^:/?#]+:\/\/(?:[^@/?#]*@)?([^:/?#]*)/.exec(uri)?.[1] ?? "";

/** With a leading dot any host below it, else that host alone. */
const matchesHost = (host: string, constraint: string): boolean =>
  constraint.startsWith(".") ? host.endsWith(constraint) : constraint === "" || host === constraint;

/** The name itself and any below it. */
const matchesDomain = (name: string, constraint: string): boolean =>
  constraint === "" ||
  name === constraint ||
  name.endsWith(constraint.startsWith(".") ? constraint : `.${constraint}`);
