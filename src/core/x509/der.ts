/** DER (ITU-T X.690, 10): a strict reader and a small writer, for what SPIFFE's documents hold. */
import { invalidArgument } from "../errors.ts";

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Tag byte of a constructed context-specific element, such as `[3]`. */
export const constructed = (number: number): number => 0xa0 | number;

/** Tag byte of a primitive context-specific element, such as the `[6]` of a URI name. */
export const primitive = (number: number): number => 0x80 | number;

export interface DerElement {
  readonly tag: number;
  /** Header and content. */
  readonly raw: Uint8Array;
  readonly content: Uint8Array;
}

const malformed = (what: string) => invalidArgument(`malformed DER: ${what}`);

/**
 * Walks the elements of one level. Lengths must be definite and minimal, tags of one byte.
 * Every method throws SpireError INVALID_ARGUMENT when the bytes are not what was asked for.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#offset >= this.#bytes.length;
  }

  next(): DerElement {
    const bytes = this.#bytes;
    const start = this.#offset;
    const tag = bytes[start];
    const first = bytes[start + 1];
    if (tag === undefined || first === undefined) throw malformed("it is truncated");
    if ((tag & 0x1f) === 0x1f) throw malformed("a tag has more than one byte");
    let contentStart = start + 2;
    let length = first;
    if (first > 0x7f) {
      const lengthBytes = first & 0x7f;
      contentStart += lengthBytes;
      length = readLength(bytes, start + 2, lengthBytes);
    }
    const end = contentStart + length;
    if (end > bytes.length) throw malformed("it is truncated");
    this.#offset = end;
    return { tag, raw: bytes.subarray(start, end), content: bytes.subarray(contentStart, end) };
  }

  read(tag: number): DerElement {
    const element = this.next();
    if (element.tag !== tag) throw malformed(`tag ${element.tag} where ${tag} belongs`);
    return element;
  }

  /** The next element when it has this tag; otherwise nothing is consumed. */
  optional(tag: number): DerElement | undefined {
    return this.#bytes[this.#offset] === tag ? this.next() : undefined;
  }

  /** A reader of the content of the next element, a SEQUENCE unless another tag is named. */
  enter(tag: number = tags.sequence): DerReader {
    return new DerReader(this.read(tag).content);
  }

  end(): void {
    if (!this.done) throw malformed("bytes follow its end");
  }
}

function readLength(bytes: Uint8Array, start: number, count: number): number {
  if (count === 0 || count > 4) throw malformed("a length is indefinite or too large");
  let length = 0;
  for (let index = start; index < start + count; index += 1) {
    const byte = bytes[index];
    if (byte === undefined) throw malformed("it is truncated");
    length = length * 256 + byte;
  }
  if (length < 0x80 || length < 256 ** (count - 1)) throw malformed("a length is not minimal");
  return length;
}

/** The single element that `bytes` must consist of. */
export function readOnly(bytes: Uint8Array, tag: number = tags.sequence): DerElement {
  const reader = new DerReader(bytes);
  const element = reader.read(tag);
  reader.end();
  return element;
}

/** Content of a BIT STRING that fills whole bytes, as signatures and public keys do. */
export function bitStringBytes(element: DerElement): Uint8Array {
  if (element.content[0] !== 0) throw malformed("a bit string is not whole bytes");
  return element.content.subarray(1);
}

export function readBoolean(element: DerElement): boolean {
  const [value, ...rest] = element.content;
  if (rest.length > 0 || (value !== 0 && value !== 0xff)) throw malformed("a boolean is neither 0 nor 255");
  return value === 0xff;
}

/** The big-endian bytes of an INTEGER that is not negative, without padding. */
export function unsignedBytes(element: DerElement): Uint8Array {
  const [first, second] = element.content;
  if (first === undefined) throw malformed("an integer is empty");
  if (first > 0x7f) throw malformed("an integer is negative");
  if (first !== 0 || second === undefined) return element.content;
  if (second < 0x80) throw malformed("an integer is not minimal");
  return element.content.subarray(1);
}

/** Dotted form of an OBJECT IDENTIFIER. */
export function readOid(element: DerElement): string {
  const arcs: number[] = [];
  let arc = 0;
  for (const byte of element.content) {
    if (arc === 0 && byte === 0x80) throw malformed("an object identifier is not minimal");
    arc = arc * 128 + (byte & 0x7f);
    if (byte < 0x80) {
      arcs.push(arc);
      arc = 0;
    }
  }
  const [first, ...rest] = arcs;
  if (first === undefined || arc !== 0) throw malformed("an object identifier is truncated");
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...rest].join(".");
}

/** Unix seconds of a UTCTime or GeneralizedTime in the one form that RFC 5280, 4.1.2.5 allows. */
export function readTime(element: DerElement): number {
  const text = asciiText(element.content);
  const utc = element.tag === tags.utcTime;
  if (!utc && element.tag !== tags.generalizedTime) throw malformed("a time has another type");
  const match = (utc ? utcPattern : generalizedPattern).exec(text);
  if (!match) throw malformed(`a time reads "${text}"`);
  const [year = 0, month = 0, ...rest] = match.slice(1).map(Number);
  const [day = 0, hour = 0, minute = 0, second = 0] = rest;
  const fullYear = utc ? year + (year < 50 ? 2000 : 1900) : year;
  const date = new Date(Date.UTC(fullYear, month - 1, day, hour, minute, second));
  if (
    date.getUTCDate() !== day ||
    date.getUTCMonth() !== month - 1 ||
    hour > 23 ||
    minute > 59 ||
    second > 59
  ) {
    throw malformed(`a time reads "${text}"`);
  }
  return date.getTime() / 1000;
}

const utcPattern = /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/;
const generalizedPattern = /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/;

/** Text of an IA5String-like content. */
export function asciiText(bytes: Uint8Array): string {
  for (const byte of bytes) if (byte > 0x7f) throw malformed("a text is not ASCII");
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Number of bytes of an element with this much content. */
export const elementSize = (contentSize: number): number =>
  contentSize + (contentSize < 0x80 ? 2 : contentSize < 0x100 ? 3 : contentSize < 0x10000 ? 4 : 5);

/** Writes tag and length; returns the offset of the content. */
export function writeHeader(target: Uint8Array, offset: number, tag: number, contentSize: number): number {
  target[offset] = tag;
  if (contentSize < 0x80) {
    target[offset + 1] = contentSize;
    return offset + 2;
  }
  const lengthBytes = contentSize < 0x100 ? 1 : contentSize < 0x10000 ? 2 : 3;
  target[offset + 1] = 0x80 | lengthBytes;
  for (let index = 0; index < lengthBytes; index += 1) {
    target[offset + 2 + index] = (contentSize >> (8 * (lengthBytes - 1 - index))) & 0xff;
  }
  return offset + 2 + lengthBytes;
}

/** One element with these parts, one after the other, as its content. */
export function encode(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let size = 0;
  for (const part of parts) size += part.length;
  const target = Buffer.allocUnsafe(elementSize(size));
  let offset = writeHeader(target, 0, tag, size);
  for (const part of parts) {
    target.set(part, offset);
    offset += part.length;
  }
  return target;
}

/** An INTEGER of big-endian bytes that are not negative. */
export function encodeUnsigned(bytes: Uint8Array): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const value = bytes.subarray(start);
  return (value[0] ?? 0) > 0x7f ? encode(tags.integer, zero, value) : encode(tags.integer, value);
}

const zero = Uint8Array.of(0);

export const encodeBitString = (bytes: Uint8Array): Buffer => encode(tags.bitString, zero, bytes);

/** An OBJECT IDENTIFIER from its dotted form. */
export function encodeOid(dotted: string): Buffer {
  const [root = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return encode(tags.oid, Uint8Array.from([root * 40 + second, ...rest].flatMap(encodeArc)));
}

function encodeArc(arc: number): number[] {
  const bytes = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
    bytes.unshift(0x80 | (rest % 128));
  }
  return bytes;
}

/** UTCTime through 2049, GeneralizedTime after it (RFC 5280, 4.1.2.5), of unix seconds. */
export function encodeTime(seconds: number): Buffer {
  const digits = new Date(seconds * 1000).toISOString().replace(/[-:T]|\.\d+Z$/g, "");
  return digits < "2050" && digits >= "1950"
    ? encode(tags.utcTime, Buffer.from(`${digits.slice(2)}Z`, "latin1"))
    : encode(tags.generalizedTime, Buffer.from(`${digits}Z`, "latin1"));
}
