/** Keeps series for Prometheus, and writes them down in its text format (version 0.0.4). */
import type { MetricSink, Recorder, Series } from "./metrics.ts";
import { createSummary, quantiles } from "./summary.ts";

export interface PrometheusRegistry {
  readonly sink: MetricSink;
  /** All series as they stand, families by name. */
  text(): string;
}

type FamilyType = "gauge" | "counter" | "summary";

interface Family {
  readonly type: FamilyType;
  /** By their labels as text; each writes its lines. */
  readonly series: Map<string, Written>;
}

interface Written {
  readonly record: Recorder;
  lines(): string;
}

/** @param now milliseconds, never going back, for the age of samples. */
export function createPrometheusRegistry(now: () => number = () => performance.now()): PrometheusRegistry {
  const families = new Map<string, Family>();

  function recorder(
    type: FamilyType,
    { name: words, labels }: Series,
    create: (name: string, labels: readonly string[]) => Written,
  ): Recorder {
    const name = words.join("_").replace(/[^A-Za-z0-9_:]/g, "_");
    const family = families.get(name) ?? { type, series: new Map<string, Written>() };
    // A family has one type; a name that was used for something else has no place in it.
    if (family.type !== type) return () => {};
    families.set(name, family);
    const own = labels.map(([label, value]) => `${label}="${escapeValue(value)}"`).sort();
    const key = own.join(",");
    const series = family.series.get(key) ?? create(name, own);
    family.series.set(key, series);
    return series.record;
  }

  return {
    sink: {
      gauge: (series) => recorder("gauge", series, createGauge),
      counter: (series) => recorder("counter", series, createCounter),
      sample: (series) => recorder("summary", series, (name, labels) => createSamples(name, labels, now)),
    },
    text() {
      const sorted = [...families].sort(([a], [b]) => (a < b ? -1 : 1));
      return sorted.map(([name, family]) => formatFamily(name, family)).join("");
    },
  };
}

function formatFamily(name: string, { type, series }: Family): string {
  const lines = [...series].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, written]) => written.lines());
  return `${formatHead(name, type)}${lines.join("")}`;
}

/** SPIRE's metrics have no description but their name. */
export const formatHead = (name: string, type: string, help = name): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;

function createGauge(name: string, labels: readonly string[]): Written {
  let current = 0;
  return {
    record: (value) => {
      current = value;
    },
    lines: () => `${name}${inBraces(labels)} ${formatNumber(current)}\n`,
  };
}

function createCounter(name: string, labels: readonly string[]): Written {
  let total = 0;
  return {
    record: (by) => {
      if (by > 0) total += by;
    },
    lines: () => `${name}${inBraces(labels)} ${formatNumber(total)}\n`,
  };
}

function createSamples(name: string, labels: readonly string[], now: () => number): Written {
  const summary = createSummary(now);
  return {
    record: summary.add,
    lines() {
      const values = summary.quantiles();
      const byQuantile = quantiles.map((quantile, index) => {
        const all = inBraces([...labels, `quantile="${quantile}"`]);
        return `${name}${all} ${formatNumber(values[index] ?? Number.NaN)}\n`;
      });
      const own = inBraces(labels);
      return `${byQuantile.join("")}${name}_sum${own} ${formatNumber(summary.sum)}\n${name}_count${own} ${summary.count}\n`;
    },
  };
}

const inBraces = (labels: readonly string[]): string => (labels.length === 0 ? "" : `{${labels.join(",")}}`);

const escapeValue = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

/** Infinities have a sign in this format. */
const formatNumber = (value: number): string =>
  Math.abs(value) === Infinity ? (value > 0 ? "+Inf" : "-Inf") : String(value);
