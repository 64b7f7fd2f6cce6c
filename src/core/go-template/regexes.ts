/** sprig's functions on regular expressions, by an engine that has Go's syntax and whose time grows linearly. */
import { exactly, type GoFunction, withMust } from "./define.ts";
import { asInt, asText, failed, type Value } from "./values.ts";

/** What is used of `re2js`. */
export interface RegexEngine {
  compile(pattern: string): { matcher(text: string): RegexMatcher };
}

interface RegexMatcher {
  find(): boolean;
  start(): number;
  end(): number;
  group(group: number): string | null;
  groupCount(): number;
  getNamedGroups(): Readonly<Record<string, string | null>>;
}

interface Match {
  readonly start: number;
  readonly end: number;
  group(name: string): string;
}

const matching: readonly string[] = [
  "regexMatch",
  "regexFindAll",
  "regexFind",
  "regexReplaceAll",
  "regexReplaceAllLiteral",
  "regexSplit",
];

/** The time of a match grows with both lengths, and a template may make a pattern of what a node chose. */
const longestPattern = 1_000;
const longestResult = 1_000_000;

/** Whoever calls one of these needs the engine. */
export const regexFunctionNames: ReadonlySet<string> = new Set([
  ...matching,
  ...matching.map((name) => `mustR${name.slice(1)}`),
  "regexQuoteMeta",
]);

export function createRegexFunctions(engine: RegexEngine): Readonly<Record<string, GoFunction>> {
  const compile = (pattern: string) => {
    if (pattern.length > longestPattern) throw failed("the regular expression is too long");
    try {
      return engine.compile(pattern);
    } catch (error) {
      throw failed(error instanceof Error ? error.message : String(error));
    }
  };

  const isPattern = (pattern: string): boolean => {
    try {
      compile(pattern);
      return true;
    } catch {
      return false;
    }
  };

  /** An empty match right behind another one doesn't count. */
  function findAll(pattern: string, text: string, limit: number): readonly Match[] {
    const matcher = compile(pattern).matcher(text);
    const found: Match[] = [];
    let lastEnd = -1;
    while ((limit < 0 || found.length < limit) && matcher.find()) {
      const [start, end] = [matcher.start(), matcher.end()];
      if (start !== end || start !== lastEnd) found.push({ start, end, group: groupsOf(matcher) });
      lastEnd = end;
    }
    return found;
  }

  const textOf = (text: string, { start, end }: Match): string => text.slice(start, end);

  const replace = (pattern: string, text: string, by: (match: Match) => string): string => {
    let result = "";
    let at = 0;
    for (const match of findAll(pattern, text, -1)) {
      result += text.slice(at, match.start) + by(match);
      if (result.length > longestResult) throw failed("the replaced text is too long");
      at = match.end;
    }
    return result + text.slice(at);
  };

  function split(pattern: string, text: string, limit: number): readonly Value[] {
    compile(pattern);
    if (limit === 0) return [];
    if (pattern !== "" && text === "") return [""];
    const parts: string[] = [];
    let start = 0;
    let end = 0;
    for (const match of findAll(pattern, text, limit)) {
      if (limit > 0 && parts.length === limit - 1) break;
      end = match.start;
      if (match.end !== 0) parts.push(text.slice(start, end));
      start = match.end;
    }
    return end === text.length ? parts : [...parts, text.slice(start)];
  }

  const of = (count: number, call: (pattern: string, text: string, third: Value) => Value): GoFunction =>
    exactly(count, ([pattern, text, third]) => call(asText(pattern), asText(text), third));

  return {
    ...withMust({
      regexMatch: of(2, (pattern, text) => findAll(pattern, text, 1).length > 0),
      regexFind: of(
        2,
        (pattern, text) => findAll(pattern, text, 1).map((match) => textOf(text, match))[0] ?? "",
      ),
      regexFindAll: of(3, (pattern, text, limit) =>
        findAll(pattern, text, asInt(limit)).map((match) => textOf(text, match)),
      ),
      regexReplaceAll: of(3, (pattern, text, replacement) => {
        const by = asText(replacement);
        return replace(pattern, text, (match) => expand(by, match));
      }),
      regexReplaceAllLiteral: of(3, (pattern, text, replacement) => {
        const by = asText(replacement);
        return replace(pattern, text, () => by);
      }),
      regexSplit: of(3, (pattern, text, limit) => split(pattern, text, asInt(limit))),
    }),
    // Without `must`, a pattern that is none matches nothing.
    regexMatch: of(2, (pattern, text) => isPattern(pattern) && findAll(pattern, text, 1).length > 0),
    regexQuoteMeta: exactly(1, ([text]) => asText(text).replace(/[\\.+*?()|[\]{}^$]/g, "\\$&")),
  };
}

/** Groups by number or name, as they are now; one that isn't there is empty. */
function groupsOf(matcher: RegexMatcher): Match["group"] {
  const numbered = Array.from({ length: matcher.groupCount() + 1 }, (_, at) => matcher.group(at) ?? "");
  const named = new Map(Object.entries(matcher.getNamedGroups()));
  return (name) => (/^\d+$/.test(name) ? numbered[Number(name)] : named.get(name)) ?? "";
}

/** `$1`, `$name` and `\${name}` of Go's Expand; `$$` is one `$`. */
const expand = (template: string, match: Match): string =>
  template.replace(/\$(?:(\$)|\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))/g, (_, dollar, braced, bare) =>
    dollar === undefined ? match.group(braced ?? bare) : "$",
  );
