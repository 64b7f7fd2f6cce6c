import { describe, expect, test } from "bun:test";
import { createSecretKey } from "node:crypto";
import { SpireError } from "../core/errors.ts";
import type { LogLevel } from "../core/log.ts";
import { createLog, type LogFormat, parseLogLevel } from "./logging.ts";

function recordingLog(format: LogFormat, level: LogLevel = "info") {
  const lines: string[] = [];
  const log = createLog({ level, format, write: (line) => lines.push(line) });
  return { ...log, lines };
}

const withoutTime = (line: string | undefined) => line?.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/, "<TIME>");

describe("text lines", () => {
  test("look like logrus', with sorted fields and quotes where needed", () => {
    const { logger, lines } = recordingLog("text");
    logger
      .with({ subsystem_name: "api" })
      .info("Configured", { data_dir: "a/b", note: "two words", empty: "", n: 3 });
    expect(withoutTime(lines[0])).toBe(
      'time="<TIME>" level=info msg=Configured data_dir=a/b empty= n=3 note="two words" subsystem_name=api\n',
    );
  });

  test("name warnings as SPIRE does", () => {
    const { logger, lines } = recordingLog("text");
    logger.warn("Careful now");
    expect(withoutTime(lines[0])).toBe('time="<TIME>" level=warning msg="Careful now"\n');
  });

  test("print an error's message with those of its causes", () => {
    const { logger, lines } = recordingLog("text");
    const cause = new SpireError("INTERNAL", "disk full");
    logger.error("Failed", { error: new SpireError("UNKNOWN", "unable to write", { cause }) });
    logger.error("Failed", { error: cause.within("unable to write") });
    expect(lines.map(withoutTime)).toEqual(
      Array(2).fill('time="<TIME>" level=error msg=Failed error="unable to write: disk full"\n'),
    );
  });

  test("have lists as Go prints them", () => {
    const { logger, lines } = recordingLog("text");
    logger.info("On", { none: [], one: ["10.0.0.0/8"], two: ["a", 1], blocks: [{ a: 1 }] });
    expect(withoutTime(lines[0])).toBe(
      'time="<TIME>" level=info msg=On blocks="[{\\"a\\":1}]" none="[]" one="[10.0.0.0/8]" two="[a 1]"\n',
    );
  });

  test("are never folded together", () => {
    const { logger, lines } = recordingLog("text");
    for (let i = 0; i < 50; i++) logger.info("again");
    expect(lines).toHaveLength(50);
  });
});

describe("JSON lines", () => {
  test("hold level, message and time beside the fields, in order of names", () => {
    const { logger, lines } = recordingLog("json");
    logger.info("Attested", {
      selectors: [{ type: "unix", value: "uid:0" }],
      agent_id: "x",
      pid: 7,
      gone: undefined,
    });
    expect(withoutTime(lines[0])).toBe(
      '{"agent_id":"x","level":"info","msg":"Attested","pid":7,"selectors":[{"type":"unix","value":"uid:0"}],"time":"<TIME>"}\n',
    );
  });

  test("keep the stack of an error that is no SpireError", () => {
    const { logger, lines } = recordingLog("json");
    logger.error("Bug", { error: new TypeError("x is undefined") });
    const line = JSON.parse(lines[0] ?? "") as Record<string, string>;
    expect(line["error"]).toBe("x is undefined");
    expect(line["error_stack"]).toContain("logging.test.ts");
  });

  test("never hold secrets: keys, bytes, and what is named as a secret", () => {
    const { logger, lines } = recordingLog("json");
    logger.info("x", {
      key: createSecretKey(Buffer.from("hidden-key-bytes")),
      der: Buffer.from("hidden-der"),
      join_token: "hidden-token",
      nested: { private_key: "hidden-private" },
    });
    expect(lines[0]).not.toContain("hidden");
    expect(lines[0]).toContain("[redacted]");
    expect(lines[0]).toContain("[10 bytes]");
  });
});

test("pretty lines are short and without colours unless asked for", () => {
  const { logger, lines } = recordingLog("pretty");
  logger.error("It broke", { where: "here" });
  expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d ERROR {3}It broke where=here\n$/);
});

describe("the level", () => {
  test("hides what is below it, and can be changed for loggers that exist", () => {
    const { logger, lines, setLevel, level } = recordingLog("text");
    const child = logger.with({ a: 1 });
    child.debug("hidden");
    setLevel("debug");
    child.debug("shown");
    setLevel("panic");
    child.error("hidden");
    expect(lines).toHaveLength(1);
    expect(level()).toBe("panic");
  });

  test.each(["DEBUG", "debug", "Debug"])("%p is read in any case", (text) => {
    expect(parseLogLevel(text)).toBe("debug");
  });

  test("warn is short for warning, and an unknown one is refused in logrus' words", () => {
    expect(parseLogLevel("warn")).toBe("warning");
    expect(() => parseLogLevel("LOUD")).toThrow('not a valid logrus Level: "LOUD"');
  });
});

describe("what others have written", () => {
  const hostile = "a\n2026 forged\u001b[2J\u009b31m\u007f\u2028\u202e\u{e0041}z";
  const shown = "a\\n2026 forged\\u001b[2J\\u009b31m\\u007f\\u2028\\u202e\\udb40\\udc41z";

  test.each(["text", "json", "pretty"] as const)(
    "neither begins a line nor speaks to a terminal: %s",
    (format) => {
      const { logger, lines } = recordingLog(format);
      logger.error(hostile, { name: hostile, list: [hostile], error: new SpireError("INTERNAL", hostile) });
      expect(lines).toHaveLength(1);
      expect(lines[0]).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}](?!$)/u);
      expect(lines[0]).toContain(format === "pretty" ? shown.replace("\\n", "\\u000a") : shown);
    },
  );

  test("is whole again where JSON is read", () => {
    const { logger, lines } = recordingLog("json");
    logger.error("Failed", { name: hostile });
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ name: hostile });
  });

  test.each(["text", "json"] as const)("doesn't fill the disk: %s", (format) => {
    const { logger, lines } = recordingLog(format);
    const long = "x".repeat(4_000_000);
    logger.error(long, { name: long, error: new SpireError("INTERNAL", long) });
    expect(lines[0]?.length).toBeLessThan(120_000);
    expect(lines[0]).toContain("(3967232 characters more)");
  });
});
