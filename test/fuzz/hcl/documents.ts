/** Documents to compare readers with: configurations, generated HCL and JSON, and damaged forms of them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";

const folder = join(import.meta.dir, "../../golden/configs");

/** The recorded configuration files of SPIRE. */
export const recorded: readonly string[] = readdirSync(folder)
  .sort()
  .map((name) => readFileSync(join(folder, name), "utf8"));

const pick = (...items: readonly string[]) => fc.constantFrom(...items);
const join_ = (parts: fc.Arbitrary<string>[], separator = "") =>
  fc.tuple(...parts).map((texts) => texts.join(separator));

const space = pick(" ", "", "  ", "\t", "\n", "\r\n", " # note\n", " // note\n", " /* note\n */ ", "\n\n");
const identifier = pick(
  "a",
  "b",
  "A",
  "server",
  "plugin_data",
  "trust-domain",
  "x.y",
  "_",
  "é",
  "true1",
  "p2",
);
const stringContent = pick(
  ...[
    "",
    "x",
    "a b",
    "é",
    "😀",
    "{",
    "}",
    "$",
    "$$",
    "\x24{a}",
    '\x24{f("q")}',
    "\x24{a\n}",
    "\x24{ {x} }",
    "\\n",
    "\\t",
  ],
  ...[
    '\\"',
    "\\\\",
    "\\x41",
    "\\xff",
    "\\u00e9",
    "\\U0001F600",
    "\\101",
    "\\400",
    "\\8",
    "\\q",
    "\\ud800",
    "'",
  ],
);
const string = fc.array(stringContent, { maxLength: 4 }).map((parts) => `"${parts.join("")}"`);
/** Names that are no text would become one name here, and stay several in the reference. */
const keyString = string.filter((text) => !/\\xff|\\ud800/.test(text));
const number = pick(
  ...[
    "0",
    "1",
    "-1",
    "42",
    "0x1F",
    "0X",
    "0755",
    "089",
    "089.5",
    "1.5",
    "-2.5e3",
    "1e5",
    "1E-2",
    ".5",
    ".5e1",
  ],
  ...[
    "1.",
    "1.e2",
    "1e",
    "-0",
    "9223372036854775807",
    "9223372036854775808",
    "0.0",
    "00",
    "1_0",
    "-",
    "1e999",
  ],
);
const heredocLine = pick("", "x", "  x", "\tx", "   y z", "E O T", "EOT x", "\x24{a}", "\\n", "é");
const heredoc = fc
  .record({
    marker: pick("<<EOT", "<<-EOT", "<<E", "<<-E"),
    lines: fc.array(heredocLine, { maxLength: 4 }),
    indent: pick("", "  ", "\t", "    "),
    tail: pick("\n", "\r\n", ""),
  })
  .map(({ marker, lines, indent, tail }) =>
    [marker, ...lines, `${indent}${marker.replace(/<<-?/, "")}${tail}`].join("\n"),
  );
const literal = fc.oneof(
  { arbitrary: string, weight: 4 },
  { arbitrary: number, weight: 3 },
  { arbitrary: pick("true", "false"), weight: 1 },
  { arbitrary: heredoc, weight: 1 },
);

/** HCL that is right, or nearly so. */
export const hclDocument: fc.Arbitrary<string> = fc.letrec<{ body: string; item: string; value: string }>(
  (tie) => ({
    value: fc.oneof(
      { maxDepth: 3, withCrossShrink: true },
      literal,
      fc
        .tuple(fc.array(tie("value"), { maxLength: 4 }), pick(",", ", ", ",\n", " , # c\n"), pick("", ","))
        .map(([values, comma, last]) => `[${values.join(comma)}${values.length > 0 ? last : ""}]`),
      join_([fc.constant("{"), space, tie("body"), space, fc.constant("}")]),
    ),
    item: fc.oneof(
      join_([fc.oneof(identifier, keyString), space, fc.constant("="), space, tie("value")]),
      fc
        .tuple(
          fc.array(fc.oneof(identifier, keyString), { minLength: 1, maxLength: 3 }),
          space,
          tie("body"),
          space,
        )
        .map(([keys, before, body, after]) => `${keys.join(" ")} {${before}${body}${after}}`),
    ),
    body: fc
      .tuple(fc.array(tie("item"), { maxLength: 4 }), pick("\n", "\n", ",\n", " ", "\r\n"))
      .map(([items, separator]) => items.join(separator)),
  }),
).body;

const jsonScalar = fc.oneof(
  fc.string({ maxLength: 5 }).map((text) => text.replace(/[^\w ]/g, "")),
  fc.integer(),
  fc.constantFrom(0.5, -1.25, 1e21, true, false),
);

/** JSON as both sides are meant to read it: no lists of truth values or lists, which the reference garbles. */
export const jsonDocument: fc.Arbitrary<string> = fc
  .letrec<{ object: object; value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      jsonScalar,
      fc.array(
        jsonScalar.filter((value) => typeof value !== "boolean"),
        { maxLength: 3 },
      ),
      fc.array(tie("object"), { maxLength: 3 }),
      tie("object"),
    ),
    object: fc.dictionary(pick("a", "b", "server", "sql", "A"), tie("value"), { maxKeys: 4 }),
  }))
  .object.chain((value) => pick("", " ", "  ").map((indent) => JSON.stringify(value, null, indent)));

const snippets = [
  "{",
  "}",
  "[",
  "]",
  "=",
  ",",
  '"',
  "\n",
  " ",
  "#",
  "/*",
  "*/",
  "//",
  "<<",
  "<<-E",
  "E",
  "\\",
  "${",
];
const odd = [
  "\u0000",
  "\uE123",
  "\r",
  "-",
  "+",
  ".",
  "0x",
  "0",
  "9",
  "e",
  "true",
  "é",
  "\u2028",
  "\uFFFD",
  ":",
  "\v",
];

interface Change {
  readonly at: number;
  readonly remove: number;
  readonly insert: string;
}

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  remove: fc.integer({ min: 0, max: 3 }),
  insert: fc.oneof(fc.constant(""), fc.constantFrom(...snippets), fc.constantFrom(...odd)),
});

function damage(text: string, changes: readonly Change[]): string {
  return changes.reduce((current, { at, remove, insert }) => {
    const characters = Array.from(current);
    characters.splice(Math.floor(at * characters.length), remove, insert);
    return characters.join("");
  }, text);
}

/** A document of any of the kinds with one to three places changed. */
export const damagedDocument: fc.Arbitrary<string> = fc
  .tuple(
    fc.oneof(hclDocument, hclDocument, jsonDocument, fc.constantFrom(...recorded)),
    fc.array(change, { minLength: 1, maxLength: 3 }),
  )
  .map(([text, changes]) => damage(text, changes));
