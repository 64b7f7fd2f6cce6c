/** Our agent path templates against Go's text/template with sprig: results, and what is refused where. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { parseAgentPathTemplate } from "../../../src/core/agent-path-template.ts";
import { SpireError } from "../../../src/core/errors.ts";
import { functionNames } from "../../../src/core/go-template/functions.ts";
import { parseCertificate, readPemCertificates } from "../../../src/core/x509/certificate.ts";
import {
  sanSelectorsOf,
  templateData,
} from "../../../src/plugins/node-attestors/x509pop/certificate-data.ts";
import { template } from "./generated.ts";
import { type Answer, askGo, certificatePath } from "./oracle.ts";
import { lessThanGo, moreThanGo, templates } from "./templates.ts";

const [der = new Uint8Array()] = readPemCertificates(readFileSync(certificatePath, "utf8"));
const leaf = parseCertificate(der);
const trustDomain = "example.org";
const data = templateData(leaf, {
  pluginName: "x509pop",
  trustDomain,
  svidPath: "rack-7/node1",
  sanSelectors: sanSelectorsOf(leaf, trustDomain, () => {}),
});

async function fill(text: string): Promise<Answer> {
  const failure = (stage: "parse" | "execute", error: unknown): Answer => {
    if (!(error instanceof SpireError)) throw error;
    return { result: "", stage, error: error.message };
  };
  let parsed: ReturnType<typeof parseAgentPathTemplate>;
  try {
    parsed = parseAgentPathTemplate(text);
  } catch (error) {
    return failure("parse", error);
  }
  try {
    return { result: await parsed.fill(data) };
  } catch (error) {
    return failure("execute", error);
  }
}

const outcome = ({ result, stage }: Answer): string => (stage ? `refused (${stage})` : `= ${result}`);

/** Go goes on with words of the mistake, or with what is no text or no part of a path, where ours ends. */
const isMistakeInWords = (ours: Answer): boolean =>
  /^printf |^illegal base|can't be printed$|cut within a character$/.test(ours.error ?? "");

async function disagreements(texts: readonly string[]): Promise<readonly object[]> {
  const answers = await askGo(texts, functionNames);
  expect(answers).toHaveLength(texts.length);
  const found: object[] = [];
  for (const [at, text] of texts.entries()) {
    const go = answers[at] ?? { result: "no answer" };
    const ours = await fill(text);
    if (outcome(ours) === outcome(go)) continue;
    if (isMistakeInWords(ours)) continue;
    // Go finds an assignment to no variable when it comes to it; the sooner, the better.
    if (ours.stage === "parse" && ours.error?.startsWith("undefined variable")) continue;
    found.push({ text, ours: ours.error ?? ours.result, go: go.error ?? go.result });
  }
  return found;
}

const seed = Number(process.env["FUZZ_SEED"] ?? 1);
const runs = Number(process.env["FUZZ_RUNS"] ?? 5_000);
/** Compiling the reference may take long on a new machine. */
const patience = 600_000;

test(
  "templates that operators write, all functions and all mistakes come out as with Go",
  async () => {
    expect(await disagreements(templates)).toEqual([]);
  },
  patience,
);

test(
  "generated templates come out as with Go",
  async () => {
    const found = await disagreements(fc.sample(template, { numRuns: runs, seed }));
    expect(found.slice(0, 5)).toEqual([]);
  },
  patience,
);

test(
  "where we differ on purpose, Go does what we say",
  async () => {
    const [more, less] = [await askGo(moreThanGo, functionNames), await askGo(lessThanGo, functionNames)];
    expect(more.map(({ stage }) => stage)).toEqual(moreThanGo.map(() => "execute"));
    expect(less.map(({ stage }) => stage)).toEqual(lessThanGo.map(() => undefined));
    expect((await Promise.all(moreThanGo.map(fill))).map(({ stage }) => stage)).toEqual(
      moreThanGo.map(() => undefined),
    );
    expect((await Promise.all(lessThanGo.map(fill))).filter(({ stage }) => !stage)).toEqual([]);
  },
  patience,
);
