/** Takes counts and measurements under SPIRE's names, adds labels, filters, and hands them to sinks. */
import type { MetricLabels, Metrics } from "../core/metrics.ts";

/** One series of values. */
export interface Series {
  /** With the prefix first. */
  readonly name: readonly string[];
  /** Each name once, in the order in which they were added. */
  readonly labels: readonly (readonly [name: string, value: string])[];
}

/** Takes one value. */
export type Recorder = (value: number) => void;

/** Where values go. Each function is called once for a series, and what it returns for each value. */
export interface MetricSink {
  gauge(series: Series): Recorder;
  counter(series: Series): Recorder;
  sample(series: Series): Recorder;
}

/** What is reported; prefixes are of names joined by dots, with the prefix of all names first. */
export interface MetricFilter {
  /** Of several that fit, the longest decides; a name that none fits is reported. */
  readonly allowedPrefixes: readonly string[];
  readonly blockedPrefixes: readonly string[];
  /** Undefined = all but the blocked. */
  readonly allowedLabels?: readonly string[];
  readonly blockedLabels: readonly string[];
}

export interface MetricsOptions {
  readonly sinks: readonly MetricSink[];
  /** First word of all names, such as `spire_server`. */
  readonly prefix: string;
  /** Put on every series as `trust_domain`; undefined = not. */
  readonly trustDomain?: string;
  /** Put on every series as `host`; undefined = not. */
  readonly host?: string;
  readonly filter: MetricFilter;
}

type Kind = keyof MetricSink;

/**
 * What a name and its labels come to is worked out once and kept, so that a value costs a look-up: callers must
 * not let labels take values that outsiders choose.
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const known = { gauge: new Map(), counter: new Map(), sample: new Map() } as const satisfies Record<
    Kind,
    Map<string, Recorder>
  >;

  function record(
    kind: Kind,
    name: readonly string[],
    value: number,
    labels: MetricLabels | undefined,
  ): void {
    const key = keyOf(name, labels);
    let recorder: Recorder | undefined = known[kind].get(key);
    if (!recorder) {
      recorder = createRecorder(kind, name, labels ?? {}, options);
      known[kind].set(key, recorder);
    }
    recorder(value);
  }

  return {
    gauge: (name, value, labels) => record("gauge", name, value, labels),
    counter: (name, by, labels) => record("counter", name, by, labels),
    sample: (name, value, labels) => record("sample", name, value, labels),
  };
}

function keyOf(name: readonly string[], labels: MetricLabels | undefined): string {
  let key = name.join(".");
  for (const label in labels) key += `\n${label}\n${labels[label]}`;
  return key;
}

function createRecorder(kind: Kind, name: readonly string[], labels: MetricLabels, options: MetricsOptions) {
  const full = [options.prefix, ...name];
  if (!isReported(full.join("."), options.filter)) return () => {};
  const series = { name: full, labels: labelsOf(labels, options) };
  const recorders = options.sinks.map((sink) => sink[kind](series));
  const [only, ...others] = recorders;
  if (only && others.length === 0) return only;
  return (value: number) => {
    for (const recorder of recorders) recorder(value);
  };
}

function labelsOf(given: MetricLabels, { trustDomain, host, filter }: MetricsOptions): Series["labels"] {
  const labels = { ...given, ...(trustDomain !== undefined && { trust_domain: trustDomain }) };
  const clean = Object.entries(labels).map(([name, value]) => [sanitize(name), sanitize(value)] as const);
  const all = new Map(host === undefined ? clean : [...clean, ["host", host]]);
  return [...all].filter(([name]) => isReportedLabel(name, filter));
}

/** Each run of characters that not every collector takes becomes one underscore, as SPIRE has it. */
const sanitize = (text: string): string => text.replace(/[^A-Za-z0-9_]+_?/g, "_");

function isReported(name: string, { allowedPrefixes, blockedPrefixes }: MetricFilter): boolean {
  const longest = (prefixes: readonly string[]) =>
    Math.max(-1, ...prefixes.filter((prefix) => name.startsWith(prefix)).map(({ length }) => length));
  const blocked = longest(blockedPrefixes);
  return blocked < 0 || longest(allowedPrefixes) > blocked;
}

const isReportedLabel = (name: string, { allowedLabels, blockedLabels }: MetricFilter): boolean =>
  !blockedLabels.includes(name) && (allowedLabels?.includes(name) ?? true);
