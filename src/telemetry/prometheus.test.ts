import { describe, expect, test } from "bun:test";
import { processMetrics } from "./process-metrics.ts";
import { createPrometheusRegistry } from "./prometheus.ts";

test("series are written by family, with their labels sorted", () => {
  const { sink, text } = createPrometheusRegistry(() => 0);
  const labels = [["status", "OK"] as const, ["host", "vm"] as const];
  sink.counter({ name: ["b", "x"], labels })(2);
  sink.counter({ name: ["b", "x"], labels })(3);
  sink.gauge({ name: ["a-1"], labels: [] })(1.5);
  const record = sink.sample({ name: ["c"], labels });
  record(1);
  record(3);
  expect(text()).toBe(
    [
      "# HELP a_1 a_1",
      "# TYPE a_1 gauge",
      "a_1 1.5",
      "# HELP b_x b_x",
      "# TYPE b_x counter",
      'b_x{host="vm",status="OK"} 5',
      "# HELP c c",
      "# TYPE c summary",
      'c{host="vm",status="OK",quantile="0.5"} 1',
      'c{host="vm",status="OK",quantile="0.9"} 3',
      'c{host="vm",status="OK",quantile="0.99"} 3',
      'c_sum{host="vm",status="OK"} 4',
      'c_count{host="vm",status="OK"} 2',
      "",
    ].join("\n"),
  );
});

test("what would break the format is escaped or left out", () => {
  const { sink, text } = createPrometheusRegistry();
  sink.counter({ name: ["a"], labels: [["l", 'x"\\\ny']] })(-1);
  sink.gauge({ name: ["a"], labels: [] })(9);
  sink.gauge({ name: ["g"], labels: [] })(Number.NEGATIVE_INFINITY);
  expect(text()).toContain('a{l="x\\"\\\\\\ny"} 0\n');
  expect(text()).not.toContain("9");
  expect(text()).toContain("g -Inf\n");
});

describe("of the process", () => {
  const values = new Map(
    processMetrics()
      .split("\n")
      .filter((line) => !line.startsWith("#") && line !== "")
      .map((line) => [line.split(" ")[0], Number(line.split(" ")[1])] as const),
  );

  test("there is what Prometheus' clients report on Linux", () => {
    expect([...values.keys()]).toEqual([
      "process_cpu_seconds_total",
      "process_max_fds",
      "process_network_receive_bytes_total",
      "process_network_transmit_bytes_total",
      "process_open_fds",
      "process_resident_memory_bytes",
      "process_start_time_seconds",
      "process_virtual_memory_bytes",
      "process_virtual_memory_max_bytes",
    ]);
  });

  test("memory and start are this process's", () => {
    const { rss } = process.memoryUsage();
    const resident = values.get("process_resident_memory_bytes") ?? 0;
    expect(resident).toBeGreaterThan(rss / 10);
    expect(resident).toBeLessThan(rss * 10);
    const started = Date.now() / 1_000 - process.uptime();
    expect(Math.abs((values.get("process_start_time_seconds") ?? 0) - started)).toBeLessThan(10);
  });
});
