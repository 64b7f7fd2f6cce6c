/** Our reader of HCL 1 against the reference implementation: trees with places, decoded values, refusals. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { notationOf, parseText } from "../../../src/config/parse.ts";
import { ConfigSyntaxError } from "../../../src/config/tree.ts";
import { damagedDocument, hclDocument, jsonDocument, recorded } from "./documents.ts";
import { type Answer, askReference } from "./oracle.ts";
import { decodeValue, describeTree, flatten, Undecodable } from "./reference.ts";

interface Outcome {
  readonly tree?: unknown;
  readonly value?: unknown;
  readonly error?: string;
}

/** What our reader makes of a text, with a decoder as the reference has it behind it. */
function read(text: string): Outcome {
  const notation = notationOf("", text);
  try {
    const block = parseText(text, notation);
    const tree = notation === "json" ? flatten(block) : block;
    return { tree: describeTree(tree), ...decoded(() => decodeValue(tree)) };
  } catch (error) {
    if (error instanceof ConfigSyntaxError) return { error: error.message };
    throw error;
  }
}

function decoded(decode: () => unknown): Outcome {
  try {
    return { value: decode() };
  } catch (error) {
    if (error instanceof Undecodable) return {};
    throw error;
  }
}

/**
 * How many bytes that are no text become how many replacement characters is nobody's business, nor is whether a
 * float is printed with an exponent.
 */
const normal = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value ?? null).replace(/(?:\uFFFD|\\ufffd)+/g, "\uFFFD"), (key, part: unknown) =>
    key === "float" && typeof part === "string" ? Number(part) : part,
  );

/** A heredoc is a string; the reference knows no places in JSON. */
const comparable = (tree: unknown, isJson: boolean): unknown =>
  JSON.parse(
    JSON.stringify(normal(tree))
      .replaceAll('"HEREDOC"', '"STRING"')
      .replace(/"\d+:\d+"/g, (place) => (isJson ? '""' : place)),
  );

/** Undefined when both agree. */
function disagreement(text: string, answer: Answer): object | undefined {
  const ours = read(text);
  const isJson = notationOf("", text) === "json";
  const refused = answer.treeError !== undefined;
  if (ours.error !== undefined || refused) {
    if (ours.error !== undefined && refused && agreeOnReason(ours.error, answer.treeError ?? "", isJson))
      return undefined;
    // The reference takes JSON that is none.
    if (isJson && ours.error !== undefined) return undefined;
    return { text, ours: ours.error ?? ours.tree, reference: answer.treeError ?? answer.tree };
  }
  const trees = [comparable(ours.tree, isJson), comparable(answer.tree, isJson)];
  if (!Bun.deepEquals(trees[0], trees[1])) return { text, ours: trees[0], reference: trees[1] };
  const values = [normal(ours.value), normal(answer.value)];
  return Bun.deepEquals(values[0], values[1]) ? undefined : { text, ours: values[0], reference: values[1] };
}

/** HCL's own words; but it names the last of several damaged tokens where we name the first, and crashes on some. */
function agreeOnReason(ours: string, theirs: string, isJson: boolean): boolean {
  if (isJson || ours === theirs || theirs.startsWith("panic: ")) return true;
  return isNotBehind(placeIn(ours), placeIn(theirs));
}

/** The innermost place of a message. */
const placeIn = (message: string): readonly number[] =>
  [...message.matchAll(/At (\d+):(\d+)/g)].at(-1)?.slice(1).map(Number) ?? [];

const isNotBehind = (
  [line = 0, column = 0]: readonly number[],
  [otherLine = 0, otherColumn = 0]: readonly number[],
) => line < otherLine || (line === otherLine && column <= otherColumn);

async function expectAgreement(texts: readonly string[]): Promise<void> {
  const answers = await askReference(texts);
  const found = texts.map((text, index) => disagreement(text, answers[index] as Answer)).filter(Boolean);
  expect(found.slice(0, 3)).toEqual([]);
  expect(answers).toHaveLength(texts.length);
}

const sample = (arbitrary: fc.Arbitrary<string>, count: number, seed: number) =>
  fc.sample(arbitrary, { numRuns: count, seed });

const seed = Number(process.env["FUZZ_SEED"] ?? 1);
const runs = Number(process.env["FUZZ_RUNS"] ?? 4_000);
/** Compiling the reference may take long on a new machine. */
const patience = 600_000;

test(
  "the recorded configurations are read as the reference reads them",
  () => expectAgreement(recorded),
  patience,
);
test(
  "generated HCL is read as the reference reads it",
  () => expectAgreement(sample(hclDocument, runs, seed)),
  patience,
);
test(
  "generated JSON is read as the reference reads it",
  () => expectAgreement(sample(jsonDocument, runs, seed)),
  patience,
);
test(
  "damaged documents are refused where the reference refuses them, in its words",
  () => expectAgreement(sample(damagedDocument, runs, seed)),
  patience,
);
