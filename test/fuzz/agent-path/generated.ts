/** Templates by chance: right ones, and such as are nearly right. */
import fc from "fast-check";

const pick = (...items: readonly string[]) => fc.constantFrom(...items);

const word = pick(
  ...[
    "a",
    "B",
    "",
    "abc",
    "Hello World",
    "GO_PATH",
    "HTTPServer2xx",
    "a-b.c",
    "x509pop",
    "  pad ",
    "12",
    "é",
  ],
  ...["a,b,c", "/a/b/../c", "aaa", "node1.example.org", "Bld4Floor3rd", "_x__y_", "UPPER lower"],
);
const text = fc.oneof(
  word.map((content) => `\`${content}\``),
  pick(
    ".PluginName",
    ".Subject.CommonName",
    "(index .DNSNames 1)",
    ".URISanSelectors.environment",
    ".SerialNumberHex",
  ),
);
const integer = pick("0", "1", "2", "3", "5", "8", "-1", "-3", "20");
const truth = pick("true", "false", "(eq .PluginName `x509pop`)", "(empty ``)");

const ofText = pick(
  ...[
    "upper",
    "lower",
    "title",
    "untitle",
    "trim",
    "nospace",
    "initials",
    "swapcase",
    "snakecase",
    "camelcase",
  ],
  ...["kebabcase", "sha1sum", "sha256sum", "adler32sum", "b64enc", "b32enc", "base", "dir", "clean", "ext"],
  ...["toString", "quote", "squote", "regexQuoteMeta", "html", "js", "urlquery", "print"],
);
const countAndText = pick("trunc", "abbrev", "wrap", "indent", "nindent");
const twoTexts = pick(
  "trimAll",
  "trimSuffix",
  "trimPrefix",
  "contains",
  "hasPrefix",
  "hasSuffix",
  "splitList",
  "cat",
);
const pattern = pick(
  "`[a-z]+`",
  "`[^a-zA-Z0-9]`",
  "`a*`",
  "`(.)(.)`",
  "`(?i)o`",
  "`\\\\.`",
  "`^`",
  "`$`",
  "`\\\\b`",
  "``",
);
const ofList = pick(
  ...[
    "first",
    "last",
    "rest",
    "initial",
    "reverse",
    "uniq",
    "compact",
    "sortAlpha",
    "toStrings",
    "len",
    "join `-`",
  ],
  ...["has 1", "print", "empty", "concat", "chunk 2", "first | print", "mustReverse"],
);

const gap = (...parts: readonly (fc.Arbitrary<string> | string)[]) =>
  fc
    .tuple(...parts.map((part) => (typeof part === "string" ? fc.constant(part) : part)))
    .map((all) => all.join(" "));

const tree = fc.letrec<{ text: string; list: string; value: string; body: string }>((tie) => ({
  text: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    text,
    gap("(", ofText, tie("text"), ")"),
    gap("(", countAndText, integer, tie("text"), ")"),
    gap("(", "substr", integer, integer, tie("text"), ")"),
    gap("(", "abbrevboth", integer, integer, tie("text"), ")"),
    gap(
      "(",
      "wrapWith",
      integer,
      word.map((content) => `\`${content}\``),
      tie("text"),
      ")",
    ),
    gap("(", "replace", tie("text"), tie("text"), tie("text"), ")"),
    gap("(", "regexReplaceAll", pattern, tie("text"), pick("`-`", "`$1`", "`<$0>`", "`$$`"), ")"),
    gap("(", pick("regexFind", "regexMatch"), pattern, tie("text"), ")"),
    gap("(", "join", "`+`", tie("list"), ")"),
    gap("(", "ternary", tie("text"), tie("text"), truth, ")"),
    gap("(", "default", tie("text"), tie("text"), ")"),
    gap("(", "printf", pick("`%s`", "`%10s|`", "`%-4s|`", "`%q`", "`%x`", "`%.3s`"), tie("text"), ")"),
  ),
  list: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    pick(".DNSNames", "(list)", "(list 1 2 1)", "(list `b` `a` ``)", ".Subject.Organization"),
    gap("(", "list", tie("text"), fc.oneof(integer, truth), ")"),
    gap("(", "regexSplit", pattern, tie("text"), pick("-1", "0", "1", "2"), ")"),
    gap("(", "regexFindAll", pattern, tie("text"), pick("-1", "0", "1", "2"), ")"),
    gap("(", "splitList", tie("text"), tie("text"), ")"),
    gap("(", pick("append", "prepend", "without"), tie("list"), fc.oneof(tie("text"), integer), ")"),
    gap("(", "slice", tie("list"), pick("0", "1", "2"), ")"),
    gap("(", pick("rest", "initial", "reverse", "uniq", "compact"), tie("list"), ")"),
  ),
  value: fc.oneof({ maxDepth: 3, withCrossShrink: true }, tie("text"), integer, truth, tie("list")),
  body: fc.oneof(
    { maxDepth: 2, withCrossShrink: true },
    gap("{{", tie("value"), "}}"),
    gap("{{-", tie("text"), "|", ofText, "}} x"),
    gap("{{", tie("list"), "|", ofList, "-}} y"),
    gap("{{", twoTexts, tie("text"), tie("text"), "}}"),
    gap("{{", "eq", fc.oneof(tie("text"), integer), fc.oneof(tie("text"), truth), "}}"),
    gap("{{ if", tie("value"), "}}", tie("body"), "{{ else }}", tie("body"), "{{ end }}"),
    gap("{{ with $v :=", tie("value"), "}}{{ $v }}", tie("body"), "{{ end }}"),
    gap("{{ range $i, $e :=", tie("list"), "}}{{ $i }}{{ $e }}", "{{ else }}", tie("body"), "{{ end }}"),
    gap(pick("plain", "/a/", "{{/* note */}}", "{{ $x := 1 }}{{ $x }}"), tie("body")),
  ),
}));

/** One character changed, dropped or doubled. */
const damaged = fc
  .record({
    whole: tree.body,
    at: fc.nat(200),
    change: pick("drop", "double", "}", "{", "`", ")", " ", ".", "|"),
  })
  .map(({ whole, at, change }) => {
    const place = at % Math.max(1, whole.length);
    const [before, own, after] = [
      whole.slice(0, place),
      whole.slice(place, place + 1),
      whole.slice(place + 1),
    ];
    return before + (change === "drop" ? "" : change === "double" ? own + own : change) + after;
  });

export const template: fc.Arbitrary<string> = fc.oneof(
  { arbitrary: tree.body, weight: 3 },
  { arbitrary: damaged, weight: 1 },
);
