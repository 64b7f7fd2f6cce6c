/** Recorded runs of SPIRE's commands: loading them, and bringing what differs from run to run to one form. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export interface RecordedCase {
  /** `program/group/name`. */
  readonly id: string;
  readonly command: string;
  readonly argv: readonly string[];
  readonly stdin?: string;
  /** Beyond the usual variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** Path > text, written before the run. */
  readonly files?: Readonly<Record<string, string>>;
  readonly filesAfter?: Readonly<Record<string, string>>;
  /** Null: it ran until it was stopped. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const golden = join(import.meta.dir, "../golden");
const readJson = (path: string): unknown => JSON.parse(readFileSync(join(golden, path), "utf8"));

/** The cases of these groups within a stage (its name's beginning), in the order in which they were recorded. */
export function recordedCases(stage: string, groups: readonly string[]): readonly RecordedCase[] {
  const order = readJson("cli/order.json") as Record<string, readonly string[]>;
  const ids = Object.entries(order).find(([name]) => name.startsWith(`${stage}:`))?.[1] ?? [];
  return ids
    .filter((id) => groups.includes(id.slice(0, id.lastIndexOf("/"))))
    .map((id) => ({ ...localised(readJson(`cli/${id}.json`) as RecordedCase), id }));
}

/** The runs were recorded by root; here the workload is whoever runs the test. */
function localised(recorded: RecordedCase): RecordedCase {
  const uid = process.getuid?.() ?? 0;
  return JSON.parse(JSON.stringify(recorded).replace(/\buid:0\b/g, `uid:${uid}`)) as RecordedCase;
}

interface Rule {
  readonly pattern: string;
  readonly replace: string;
}

const recordedRules = (readJson("normalise.json") as Rule[]).map(
  ({ pattern, replace }) => [new RegExp(pattern, "g"), replace] as const,
);

/** Beyond the recording's own rules: texts of libraries, descriptions, keys of bundles. */
const ownRules: readonly (readonly [RegExp, string])[] = [
  [/(Usage of [^\n]*:\n)(?: {2}-[^\n]*\n {4}\t[^\n]*\n)+/g, "$1  <flag descriptions omitted>\n"],
  [/^( {4}[a-z0-9]+) .*$/gm, "$1"],
  [/desc = connection error:.*$/gm, "desc = <CONNECTION ERROR>"],
  [/"keys": \[\n[\s\S]*?\n {4}\]/g, '"keys": [<KEYS>]'],
  [/"ewog[A-Za-z0-9+/=]+"/g, '"<JWKS>"'],
  [/<(?:KID|SKID|SERIAL)>/g, "<ID>"],
  [/"(spiffe_sequence|sequence_number)": ?"?\d+"?/g, '"$1":"<N>"'],
  [/"agent_version":"[^"]*"/g, '"agent_version":"<VERSION>"'],
  [/Agent version {5}: .*\n/g, ""],
  [/("uptime":|Uptime: +)[^\s}]+/g, "$1<UPTIME>"],
];

export function normalise(text: string): string {
  return [...recordedRules, ...ownRules].reduce(
    (result, [pattern, replace]) => result.replace(pattern, replace),
    text,
  );
}

/**
 * The same with blocks between empty lines, and items of JSON lists, in a fixed order: in which order a database
 * lists its rows is nobody's promise.
 */
export function normaliseUnordered(text: string): string {
  const normal = normalise(text);
  if (/^[[{].*\n$/.test(normal)) return JSON.stringify(sortLists(parseLoosely(normal)));
  return normal
    .split(/\n\n|(?=^token\()/m)
    .sort()
    .join("\n\n");
}

/** Placeholders may have replaced bare numbers. */
const parseLoosely = (text: string): unknown => JSON.parse(text.replace(/":<(\w+)>/g, '":"<$1>"'));

function sortLists(value: unknown): unknown {
  if (Array.isArray(value))
    return value.map(sortLists).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, sortLists(field)]));
}
