import { describe, expect, test } from "bun:test";
import { parseAgentPathTemplate } from "./agent-path-template.ts";
import { SpireError } from "./errors.ts";
import { goMap, stringMap } from "./go-template/values.ts";
import { parseTrustDomain } from "./spiffe-id.ts";

const trustDomain = parseTrustDomain("example.org");
const data = { PluginName: "x509pop", Tags: stringMap([["rack", "r7"]]), Names: ["b", "a"], Own: goMap() };

const failure = async (work: () => unknown): Promise<string> => {
  try {
    return `none: ${await work()}`;
  } catch (error) {
    return SpireError.from(error).message;
  }
};

describe("an agent path template", () => {
  test("is filled with its data", async () => {
    const template = parseAgentPathTemplate(
      '/{{ .PluginName }}/{{ .Tags.rack | upper }}/{{ join "-" .Names }}',
    );
    expect(await template.fill(data)).toBe("/x509pop/R7/b-a");
    expect<string>(await template.agentId(trustDomain, data)).toBe(
      "spiffe://example.org/spire/agent/x509pop/R7/b-a",
    );
  });

  test("says what is wrong with it, and on which line", async () => {
    const cases: readonly [string, string][] = [
      ["/{{ .PluginName", "unclosed action"],
      ["/{{ env `HOME` }}", 'function "env" not defined'],
      ["/a\n/{{ $x }}", 'line 2: undefined variable "$x"'],
      ["/{{ if }}{{ end }}", "missing value for if"],
    ];
    for (const [text, message] of cases)
      expect(await failure(() => parseAgentPathTemplate(text))).toBe(message);
  });

  test("fails rather than naming an agent after what isn't there", async () => {
    const fill = (text: string) => failure(() => parseAgentPathTemplate(text).fill(data));
    expect(await fill("/{{ .Tags.none }}")).toBe('map has no entry for key "none"');
    expect(await fill("/{{ .None }}")).toBe("can't evaluate field None in type agent path data");
    expect(await fill("/{{ index .Names 2 }}")).toBe("index out of range: 2");
  });

  test("changes maps of its own, but never its data", async () => {
    const fill = (text: string) => failure(() => parseAgentPathTemplate(text).fill(data));
    expect(await fill('{{ $d := dict }}{{ $d = set $d "a" 1 }}{{ $d.a }}')).toBe("none: 1");
    expect(await fill('{{ set .Tags "rack" "r8" }}')).toContain("wrong type for value");
    expect(await fill("{{ .Tags.rack }}{{ sortAlpha .Names }}{{ .Names }}")).toBe("none: r7[a b][b a]");
  });

  test("can't run away", async () => {
    const fill = (text: string) => failure(() => parseAgentPathTemplate(text).fill(data));
    expect(await fill("{{ range 999999999 }}{{ end }}")).toBe("the loops go on for too long");
    expect(await fill('{{ repeat 999999999 "a" }}')).toBe("the repeated text is too long");
    expect(await fill('{{ define "a" }}{{ template "a" }}{{ end }}{{ template "a" }}')).toContain(
      "too often",
    );
    expect(await fill('{{ $a := repeat 999999 "a" }}{{ $a }}{{ $a }}')).toBe("the result is too long");
    expect(await fill('{{ regexMatch "^(a+)+$" (repeat 5000 "a" | print "b") }}')).toBe("none: false");
    expect(await fill('{{ printf "%999999999s" "a" }}')).toContain("asks for too much");
  });
});
