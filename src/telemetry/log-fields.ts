/** What may be printed of a log line's fields: plain values only, and nothing that is or could be a secret. */
import { SpireError } from "../core/errors.ts";
import type { LogFields } from "../core/log.ts";

const redacted = "[redacted]";
/** Fields that can only hold secrets. */
const secretName = /(^|_)(token|password|secret|private_key|passphrase|credentials?)$/i;

/**
 * The fields as text, numbers, truth values and plain objects of those, sorted by name; undefined ones left out.
 * An error gives its message with those of its causes; one that isn't a SpireError also its stack.
 */
export function plainFields(fields: LogFields): [string, unknown][] {
  const plain: [string, unknown][] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    plain.push([name, secretName.test(name) ? redacted : plainValue(value)]);
    if (value instanceof Error && !(value instanceof SpireError))
      plain.push([`${name}_stack`, value.stack ?? ""]);
  }
  return plain.sort(([a], [b]) => (a < b ? -1 : 1));
}

function plainValue(value: unknown): unknown {
  switch (typeof value) {
    case "string":
      return cut(value);
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "bigint":
      return String(value);
    case "object":
      return value === null ? "" : plainObject(value);
    default:
      return redacted;
  }
}

function plainObject(value: object): unknown {
  if (value instanceof Error) return cut(errorText(value));
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Set || Array.isArray(value)) return [...value].map(plainValue);
  const prototype: unknown = Object.getPrototypeOf(value);
  // Anything with a class of its own, such as a KeyObject, may carry a secret.
  if (prototype !== Object.prototype && prototype !== null) return redacted;
  return Object.fromEntries(plainFields({ ...value }));
}

/** The message, followed by those of its causes that it doesn't repeat. */
function errorText(error: Error): string {
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  const inner = errorText(cause);
  return error.message.includes(inner) ? error.message : `${error.message}: ${inner}`;
}

/** A value after `key=`, quoted where logrus quotes. */
export function formatField(value: unknown): string {
  const text = Array.isArray(value)
    ? listText(value)
    : typeof value === "object"
      ? JSON.stringify(value)
      : String(value);
  return /^[A-Za-z0-9\-._/@^+]*$/.test(text) ? text : escapeControls(JSON.stringify(text));
}

/** `[a b]`, as Go prints lists of texts. */
const listText = (items: readonly unknown[]): string =>
  items.some((item) => typeof item === "object") ? JSON.stringify(items) : `[${items.join(" ")}]`;

/** Characters; more than any line needs. A request may have megabytes, and anybody may send one. */
const longestText = 32 * 1024;

/** A text with its end left out where it is too long for a log. */
export const cut = (text: string): string =>
  text.length <= longestText
    ? text
    : `${text.slice(0, longestText)}... (${text.length - longestText} characters more)`;

/**
 * Writes as `\uXXXX` what a terminal or an editor would act on instead of showing it, such as escape sequences and
 * the direction of writing. JSON remains the JSON that it is.
 */
export const escapeControls = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (characters) =>
    Array.from({ length: characters.length }, (_, at) => {
      const unit = characters.charCodeAt(at).toString(16);
      return `\\u${unit.padStart(4, "0")}`;
    }).join(""),
  );
