/** IP addresses and ranges of them (CIDR notation, RFC 4632 and RFC 4291, section 2.3). */
import { invalidArgument } from "./errors.ts";

/** 4 or 16 numbers below 256. */
type Octets = readonly number[];

const ipv4 = 4;
const groups = 8;

/** @returns undefined for text that is no address; one with a zone, too. */
function parseIp(text: string): Octets | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): Octets | undefined {
  const parts = text.split(".");
  const isGood = parts.length === ipv4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part));
  const octets = parts.map(Number);
  return isGood && octets.every((octet) => octet < 256) ? octets : undefined;
}

/** Eight groups; `::` stands for one or more that are zero, and the last two may be written as an IPv4 address. */
function parseIpv6(text: string): Octets | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [before, after] = halves.map((half, at) => parseGroups(half, at === halves.length - 1));
  if (!before || (halves.length === 2 && !after)) return undefined;
  const given = before.length + (after?.length ?? 0);
  if (halves.length === 1) return given === 2 * groups ? before : undefined;
  if (given > 2 * (groups - 1)) return undefined;
  return [...before, ...new Array<number>(2 * groups - given).fill(0), ...(after ?? [])];
}

function parseGroups(text: string, isLast: boolean): Octets | undefined {
  if (text === "") return [];
  const octets: number[] = [];
  const parts = text.split(":");
  for (const [at, part] of parts.entries()) {
    const embedded = isLast && at === parts.length - 1 && part.includes(".") ? parseIpv4(part) : undefined;
    if (!embedded && !/^[\da-f]{1,4}$/i.test(part)) return undefined;
    const group = Number.parseInt(part, 16);
    octets.push(...(embedded ?? [group >> 8, group & 255]));
  }
  return octets;
}

/** An IPv4 address that is written as an IPv6 one is the IPv4 address (RFC 4291, section 2.5.5.2). */
function unmapped(octets: Octets): Octets {
  const isMapped =
    octets.length > ipv4 && octets.slice(0, 12).every((octet, at) => octet === (at < 10 ? 0 : 255));
  return isMapped ? octets.slice(12) : octets;
}

/** The family of an address: 4 or 6; undefined for text that is none. */
export function ipFamily(text: string): 4 | 6 | undefined {
  const octets = parseIp(text);
  return octets && (octets.length === ipv4 ? 4 : 6);
}

/**
 * The one spelling of an address (RFC 5952), with an IPv4 address in IPv6's form as the IPv4 address.
 * @returns undefined for text that is no address; one with a zone, too.
 */
export function canonicalIp(text: string): string | undefined {
  const parsed = parseIp(text);
  return parsed && formatIp(parsed);
}

/** Who has one IPv6 address has the 2^64 beside it. */
const networkOctets = 8;

/** What an address counts as where callers are told apart: an IPv4 address itself, of IPv6 its network (`/64`). */
export function networkOf(text: string): string {
  const parsed = parseIp(text.replace(/%.*$/, ""));
  if (!parsed) return text;
  const octets = unmapped(parsed);
  if (octets.length === ipv4) return octets.join(".");
  return `${formatIpv6(octets.map((octet, at) => (at < networkOctets ? octet : 0)))}/64`;
}

/** @param octets 4 or 16, as they stand in packets. */
export function formatIp(octets: Octets): string {
  const bare = unmapped(octets);
  return bare.length === ipv4 ? bare.join(".") : formatIpv6(bare);
}

/** The longest run of two or more zero groups, the first one of those alike, becomes `::`. */
function formatIpv6(octets: Octets): string {
  const all = Array.from(
    { length: groups },
    (_, at) => (octets[2 * at] ?? 0) * 256 + (octets[2 * at + 1] ?? 0),
  );
  let run = { start: 0, length: 1 };
  for (let start = 0; start < groups; start++) {
    let length = 0;
    while (all[start + length] === 0) length += 1;
    if (length > run.length) run = { start, length };
  }
  const format = (some: readonly number[]) => some.map((group) => group.toString(16)).join(":");
  if (run.length === 1) return format(all);
  return `${format(all.slice(0, run.start))}::${format(all.slice(run.start + run.length))}`;
}

/** Whether an address, in any spelling, lies in one of the ranges. Text that is no address lies in none. */
export type IpRanges = (address: string) => boolean;

/** @param texts such as `10.0.0.0/8` and `fd00::/8`. @throws SpireError INVALID_ARGUMENT in Go's words. */
export function parseIpRanges(texts: readonly string[]): IpRanges {
  const ranges = texts.map(parseRange);
  return (address) => {
    const parsed = parseIp(address);
    if (!parsed) return false;
    const octets = unmapped(parsed);
    return ranges.some(({ start, bits }) => start.length === octets.length && isAlike(start, octets, bits));
  };
}

function parseRange(text: string): { readonly start: Octets; readonly bits: number } {
  const [, address = "", prefix = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const octets = parseIp(address);
  const bits = Number(prefix);
  if (!octets || prefix === "" || bits > 8 * octets.length) {
    throw invalidArgument(`invalid CIDR address: ${text}`);
  }
  const start = unmapped(octets);
  // A range of mapped addresses is one of IPv4 addresses; a wider one holds none that would be asked for.
  const skipped = 8 * (octets.length - start.length);
  return bits >= skipped ? { start, bits: bits - skipped } : { start: octets, bits };
}

/** Whether the first `bits` bits are the same. */
const isAlike = (a: Octets, b: Octets, bits: number): boolean =>
  a.every((octet, at) => {
    const counted = Math.min(8, Math.max(0, bits - 8 * at));
    return ((octet ^ (b[at] ?? 0)) & (0xff00 >> counted) & 0xff) === 0;
  });
