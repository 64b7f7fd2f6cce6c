/** What a server logs, audits and measures, against what the stock server did in the same situations. */
import { beforeAll, describe, expect, test } from "bun:test";
import { loggedRun } from "./logged-run.ts";
import { auditDifferences, logDifferences, metricDifferences } from "./observability-differences.ts";
import { type Observed, observe, readRecorded } from "./observed.ts";
import type { LogLine } from "./running.ts";

let observed: Observed;
let processLines: readonly LogLine[];
beforeAll(async () => {
  observed = await observe();
  processLines = await loggedRun();
}, 60_000);

/** Those of the known differences that are none, and those differences that are not known. */
function compareNames(names: readonly string[], known: Readonly<Record<string, string>>) {
  return {
    unknown: names.filter((name) => !(name in known)),
    settled: Object.keys(known).filter((name) => !names.includes(name)),
  };
}

const nothing = { unknown: [], settled: [] };

describe("the audit log", () => {
  const common = ["time", "level", "msg", "request_id"];
  /** Who asked for what, what came of it, and which fields say so. */
  const kindOf = (line: LogLine): string => {
    const { service, method, authorized_as: as, status, status_code: code = 0 } = line;
    const fields = Object.keys(line).filter((name) => !common.includes(name));
    return [service, method, as, status, code, fields.sort().join(",")].join(" ");
  };
  const recorded: LogLine[] = readRecorded("logs/audit-examples.jsonl")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const audited = () => observed.logLines.filter(({ type }) => type === "audit");

  test("has the recorded lines' fields and outcomes, but for known differences", () => {
    const ours = new Set(audited().map(kindOf));
    const missing = recorded.map(kindOf).filter((kind) => !ours.has(kind));
    expect(compareNames(missing, auditDifferences)).toEqual(nothing);
  });

  test("names the message, level and subsystem as recorded", () => {
    for (const { msg, level, subsystem_name } of audited()) {
      expect({ msg, level, subsystem_name }).toEqual({
        msg: "API accessed",
        level: "info",
        subsystem_name: "api",
      });
    }
  });

  test("holds no join token, no CSR and no token that was issued", () => {
    const text = JSON.stringify(audited());
    expect(text).not.toMatch(/eyJ[A-Za-z0-9_-]{10,}\./);
    expect(text).not.toContain("custom-token");
    expect(text).not.toContain("BEGIN");
    for (const { csr } of audited()) expect(String(csr ?? "")).toMatch(/^([0-9a-f]{64})?$/);
  });
});

describe("the log", () => {
  interface RecordedMessage {
    readonly level: string;
    readonly subsystem_name: string | null;
    readonly msg: string;
    readonly fieldsAlways: readonly string[];
  }
  const recorded: RecordedMessage[] = JSON.parse(readRecorded("logs/server-messages.json"));

  /** Up to a text of Go's libraries; what stands before it is SPIRE's own. */
  const upToQuote = (message: string) => message.split(/invalid character|x509:/)[0] ?? "";
  const isSame = (ours: string, recordedText: string) =>
    upToQuote(recordedText) === recordedText
      ? ours === recordedText
      : ours.startsWith(upToQuote(recordedText));

  const withoutDuration = (message: string) =>
    message.replace(/(Please set \w+ to) \S+ or less/, "$1 <dur> or less");

  test("has the recorded messages with level, subsystem and fields, but for known differences", () => {
    const lines = [...observed.logLines, ...processLines];
    const hasLine = ({ level, subsystem_name: subsystem, msg, fieldsAlways }: RecordedMessage) =>
      lines.some(
        (line) =>
          isSame(withoutDuration(String(line["msg"])), msg) &&
          line["level"] === level &&
          (line["subsystem_name"] ?? null) === subsystem &&
          fieldsAlways.every((field) => field in line),
      );
    const missing = recorded.filter((message) => !hasLine(message));
    const names = missing.map(({ level, subsystem_name: subsystem, msg }) => `${level} ${subsystem}: ${msg}`);
    expect(compareNames(names, logDifferences)).toEqual(nothing);
  });

  test("gives all lines of a call one request ID", () => {
    const denied = observed.logLines.filter(({ msg }) => msg === "Agent is banned");
    expect(denied.length).toBeGreaterThan(0);
    for (const { request_id: id } of denied) {
      const lines = observed.logLines.filter((line) => line["request_id"] === id);
      expect(lines.map(({ msg }) => msg)).toEqual(["Agent is banned", "Failed to authenticate caller"]);
    }
  });
});

describe("metrics", () => {
  interface RecordedMetric {
    readonly name: string;
    readonly type: string;
    readonly labels: readonly string[];
  }
  const recorded: RecordedMetric[] = JSON.parse(readRecorded("metrics/server.json"));

  function readFamilies(): Map<string, { readonly type: string; readonly labels: Set<string> }> {
    const families = new Map<string, { readonly type: string; readonly labels: Set<string> }>();
    for (const line of observed.pages.flatMap((page) => page.split("\n"))) {
      const [, declared, type = ""] = /^# TYPE (\S+) (\S+)/.exec(line) ?? [];
      if (declared !== undefined && !families.has(declared))
        families.set(declared, { type, labels: new Set() });
      const [, name = "", labels = ""] = /^([^{# ]+)(?:\{(.*)\})? /.exec(line) ?? [];
      const family = families.get(name) ?? families.get(name.replace(/_(sum|count)$/, ""));
      for (const [, label = ""] of labels.matchAll(/(\w+)="/g)) family?.labels.add(label);
    }
    return families;
  }

  test("have the recorded names, types and labels, but for known differences", () => {
    const families = readFamilies();
    const missing = recorded.filter(({ name, type, labels }) => {
      const ours = families.get(name);
      return ours?.type !== type || [...ours.labels].sort().join() !== [...labels].sort().join();
    });
    const names = missing
      .map(({ name }) => name.replace(/_elapsed_time$/, "").replace(/^go_.*/, "go_*"))
      .filter((name, index, all) => all.indexOf(name) === index);
    expect(compareNames(names, metricDifferences)).toEqual(nothing);
  });

  test("of calls tell how each ended", () => {
    const page = observed.pages[1] ?? "";
    const count = (status: string) =>
      Number(
        new RegExp(`_rpc_agent_v1_agent_get_agent\\{host="[^"]*",status="${status}"\\} (\\d+)`).exec(
          page,
        )?.[1],
      );
    expect(count("OK")).toBeGreaterThan(0);
    expect(count("NotFound")).toBeGreaterThan(0);
    expect(count("PermissionDenied")).toBeGreaterThan(0);
  });
});
