/** What both halves of x509pop say to each other: JSON as SPIRE's plugins write it, and signatures over two nonces. */
import { constants, type KeyObject, randomBytes, sign, verify } from "node:crypto";
import { invalidArgument } from "../../../core/errors.ts";

export type KeyKind = "rsa" | "ecdsa";

const nonceSize = 32;
/**
 * Anybody may send a message, and what is in it is then read, compared and made a name of. The runtime's TLS takes no
 * chain beyond 100 KB either.
 */
const longestMessage = 128 * 1024;

/** The kind of challenge that a key can answer; undefined = none. */
export function keyKindOf(key: KeyObject): KeyKind | undefined {
  if (key.asymmetricKeyType === "rsa") return "rsa";
  return key.asymmetricKeyType === "ec" ? "ecdsa" : undefined;
}

/** DER, leaf first. */
export const encodePayload = (chain: readonly Uint8Array[]): Uint8Array =>
  encode({ certificates: chain.map(toBase64) });

/** @throws SpireError INVALID_ARGUMENT. */
export function decodePayload(payload: Uint8Array): readonly Uint8Array[] {
  const failure = "failed to unmarshal data";
  const certificates = decode(payload, failure)["certificates"] ?? [];
  if (!Array.isArray(certificates)) throw invalidArgument(`${failure}: certificates is not a list`);
  return certificates.map((text: unknown) => fromBase64(text, failure));
}

export interface Challenge {
  readonly kind: KeyKind;
  readonly nonce: Uint8Array;
}

export const newChallenge = (kind: KeyKind): Challenge => ({ kind, nonce: randomBytes(nonceSize) });

export const encodeChallenge = ({ kind, nonce }: Challenge): Uint8Array => encodeFor(kind, { nonce });

/** @throws SpireError INVALID_ARGUMENT for anything but a challenge for this kind of key. */
export function decodeChallenge(bytes: Uint8Array, kind: KeyKind): Challenge {
  const failure = "unable to unmarshal challenge";
  const { nonce } = part(decode(bytes, failure), kind, failure, "challenge");
  return { kind, nonce: fromBase64(nonce, failure) };
}

export type Answer =
  | { readonly kind: "rsa"; readonly nonce: Uint8Array; readonly signature: Uint8Array }
  | { readonly kind: "ecdsa"; readonly nonce: Uint8Array; readonly r: Uint8Array; readonly s: Uint8Array };

/**
 * Signs the challenge's nonce and a new one of one's own.
 * @throws SpireError INVALID_ARGUMENT for a nonce of another size: whoever chooses it chooses what is signed.
 */
export function answerChallenge(key: KeyObject, challenge: Challenge): Uint8Array {
  if (challenge.nonce.length !== nonceSize) throw invalidArgument("invalid challenge nonce");
  const nonce = randomBytes(nonceSize);
  const message = Buffer.concat([challenge.nonce, nonce]);
  if (challenge.kind === "rsa") {
    const saltLength = constants.RSA_PSS_SALTLEN_MAX_SIGN;
    const signature = sign("sha256", message, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });
    return encodeFor("rsa", { nonce, signature });
  }
  const pair = sign("sha256", message, { key, dsaEncoding: "ieee-p1363" });
  const half = pair.length / 2;
  return encodeFor("ecdsa", {
    nonce,
    r: withoutZeros(pair.subarray(0, half)),
    s: withoutZeros(pair.subarray(half)),
  });
}

/** @throws SpireError INVALID_ARGUMENT for what is no answer of this kind; whether it holds is another question. */
export function decodeAnswer(bytes: Uint8Array, kind: KeyKind): Answer | undefined {
  const failure = "unable to unmarshal challenge response";
  const all = decode(bytes, failure);
  const field = fields[kind];
  if (all[field] === undefined || all[field] === null) return undefined;
  const { nonce, signature, r, s } = part(all, kind, failure, "response");
  const read = (value: unknown) => fromBase64(value, failure);
  return kind === "rsa"
    ? { kind, nonce: read(nonce), signature: read(signature) }
    : { kind, nonce: read(nonce), r: read(r), s: read(s) };
}

/** Why an answer to a challenge doesn't prove possession of the key; undefined when it does. */
export function flawOf(key: KeyObject, challenge: Challenge, answer: Answer | undefined): string | undefined {
  const name = challenge.kind.toUpperCase();
  if (!answer) return `expecting ${name} response`;
  if (answer.nonce.length !== nonceSize) return "invalid response nonce";
  const message = Buffer.concat([challenge.nonce, answer.nonce]);
  return holds(key, message, answer) ? undefined : `${name} signature verify failed`;
}

/** RSASSA-PSS with any salt (RFC 8017, 8.1), ECDSA (FIPS 186-5); SHA-256 for every key. */
function holds(key: KeyObject, message: Uint8Array, answer: Answer): boolean {
  if (answer.kind === "rsa") {
    const saltLength = constants.RSA_PSS_SALTLEN_AUTO;
    const options = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
    return verify("sha256", message, options, answer.signature);
  }
  const size = Math.ceil(curveBits(key) / 8);
  const [r, s] = [withoutZeros(answer.r), withoutZeros(answer.s)];
  if (r.length > size || s.length > size) return false;
  const pair = Buffer.alloc(2 * size);
  pair.set(r, size - r.length);
  pair.set(s, 2 * size - s.length);
  return verify("sha256", message, { key, dsaEncoding: "ieee-p1363" }, pair);
}

/** Bits of the numbers in a signature. */
const curveBits = (key: KeyObject): number =>
  Number(/\d+/.exec(key.asymmetricKeyDetails?.namedCurve?.replace("prime", "") ?? "")?.[0] ?? 0);

/** Go's big numbers have none. */
function withoutZeros(bytes: Uint8Array): Uint8Array {
  const start = bytes.findIndex((byte) => byte !== 0);
  return start < 0 ? new Uint8Array() : bytes.subarray(start);
}

const fields: Readonly<Record<KeyKind, string>> = { rsa: "rsa_signature", ecdsa: "ecdsa_signature" };

function encodeFor(kind: KeyKind, content: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const texts = Object.entries(content).map(([name, bytes]) => [name, toBase64(bytes)]);
  return encode({ rsa_signature: null, ecdsa_signature: null, [fields[kind]]: Object.fromEntries(texts) });
}

const encode = (content: object): Uint8Array => Buffer.from(JSON.stringify(content));

const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

type JsonObject = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function decode(bytes: Uint8Array, failure: string): JsonObject {
  if (bytes.length === 0) throw invalidArgument(`${failure}: unexpected end of JSON input`);
  if (bytes.length > longestMessage) {
    throw invalidArgument(`${failure}: it has ${bytes.length} bytes, more than ${longestMessage}`);
  }
  let content: unknown;
  try {
    content = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    // The parser's message quotes its input, which is a stranger's.
    throw invalidArgument(`${failure}: invalid JSON`);
  }
  if (!isObject(content)) throw invalidArgument(`${failure}: not a JSON object`);
  return content;
}

function part(content: JsonObject, kind: KeyKind, failure: string, what: string): JsonObject {
  const found = content[fields[kind]];
  if (found === undefined || found === null) throw invalidArgument(`expecting ${kind.toUpperCase()} ${what}`);
  if (!isObject(found)) throw invalidArgument(`${failure}: ${fields[kind]} is not a JSON object`);
  return found;
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** None is empty, as in Go. */
function fromBase64(text: unknown, failure: string): Uint8Array {
  if (text === undefined || text === null) return new Uint8Array();
  if (typeof text !== "string" || !base64.test(text))
    throw invalidArgument(`${failure}: illegal base64 data`);
  return Buffer.from(text, "base64");
}
