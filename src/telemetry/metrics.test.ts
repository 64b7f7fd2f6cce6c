import { describe, expect, test } from "bun:test";
import { createMetrics, type MetricSink, type MetricsOptions, type Series } from "./metrics.ts";

const everything = { allowedPrefixes: [], blockedPrefixes: [], blockedLabels: [] };

function collecting(options: Partial<MetricsOptions> = {}) {
  const series: (Series & { kind: string; values: number[] })[] = [];
  const opener = (kind: string) => (opened: Series) => {
    const values: number[] = [];
    series.push({ ...opened, kind, values });
    return (value: number) => void values.push(value);
  };
  const sink: MetricSink = {
    gauge: opener("gauge"),
    counter: opener("counter"),
    sample: opener("sample"),
  };
  return { metrics: createMetrics({ sinks: [sink], prefix: "p", filter: everything, ...options }), series };
}

test("values of one name and one set of labels are one series", () => {
  const { metrics, series } = collecting();
  metrics.counter(["a"], 1, { status: "OK" });
  metrics.counter(["a"], 2, { status: "OK" });
  metrics.counter(["a"], 4, { status: "NotFound" });
  metrics.gauge(["a"], 8);
  expect(series.map(({ kind, name, labels, values }) => [kind, name, labels, values])).toEqual([
    ["counter", ["p", "a"], [["status", "OK"]], [1, 2]],
    ["counter", ["p", "a"], [["status", "NotFound"]], [4]],
    ["gauge", ["p", "a"], [], [8]],
  ]);
});

test("labels are those of the call, the trust domain and the host, cleaned as SPIRE cleans them", () => {
  const { metrics, series } = collecting({ trustDomain: "example.org", host: "vm-1.local" });
  metrics.gauge(["started"], 1, { version: "1.16.0-dev-unk", "a b": "x:-_y" });
  expect(series[0]?.labels).toEqual([
    ["version", "1_16_0_dev_unk"],
    ["a_b", "x_y"],
    ["trust_domain", "example_org"],
    ["host", "vm-1.local"],
  ]);
});

describe("a filter", () => {
  const names = (filter: Partial<MetricsOptions["filter"]>) => {
    const { metrics, series } = collecting({ filter: { ...everything, ...filter }, host: "vm" });
    for (const name of [["rpc", "a"], ["rpc", "b"], ["up"]]) metrics.counter(name, 1, { status: "OK" });
    return series;
  };

  test("leaves out blocked prefixes, unless a longer allowed one fits", () => {
    const kept = names({ blockedPrefixes: ["p.rpc"], allowedPrefixes: ["p.rpc.b"] });
    expect(kept.map(({ name }) => name.join("."))).toEqual(["p.rpc.b", "p.up"]);
    expect(names({ allowedPrefixes: ["p.rpc.b"] })).toHaveLength(3);
  });

  test("leaves out labels that are blocked, or not among the allowed", () => {
    expect(names({ blockedLabels: ["host"] })[0]?.labels).toEqual([["status", "OK"]]);
    expect(names({ allowedLabels: ["host"] })[0]?.labels).toEqual([["host", "vm"]]);
    expect(names({ allowedLabels: [] })[0]?.labels).toEqual([]);
  });
});

test("each sink gets each value", () => {
  const first = collecting();
  const values: number[] = [];
  const record = () => (value: number) => void values.push(value);
  const other = { gauge: record, counter: record, sample: record };
  const { metrics } = collecting({ sinks: [other, other] });
  metrics.sample(["a"], 3);
  expect(values).toEqual([3, 3]);
  expect(first.series).toEqual([]);
});
