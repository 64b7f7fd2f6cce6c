/** snake_case, kebab-case and PascalCase as sprig's library xstrings forms them. */

type WordKind = "number" | "upper" | "letters" | "connector" | "punctuation" | "other";

interface Word {
  readonly kind: WordKind;
  readonly text: string;
}

const isConnector = (character: string): boolean => /[-_\t\n\v\f\r \u0085\u00a0\p{Z}]/u.test(character);

/** A run of capitals leaves its last one to the small letters that follow it: `HTTP`, `Server`. */
const words: readonly (readonly [WordKind, RegExp])[] = [
  ["connector", /^[-_\t\n\v\f\r \u0085\u00a0\p{Z}]+/u],
  ["punctuation", /^[\p{P}]+/u],
  ["upper", /^(?:\p{Lu}{2,}(?![\p{L}])|\p{Lu}+(?=\p{Lu}[\p{L}])|\p{Lu}(?:(?!\p{Lu})\p{L})*)/u],
  ["letters", /^(?:(?!\p{Lu})\p{L})+/u],
  ["number", /^\p{N}+/u],
  ["other", /^[^\p{L}\p{N}\p{P}\p{Z}\t\n\v\f\r\u0085]+/u],
];

function split(text: string): readonly Word[] {
  const found: Word[] = [];
  for (let rest = text; rest !== ""; ) {
    const [kind, match] = firstWord(rest);
    found.push({ kind, text: match });
    rest = rest.slice(match.length);
  }
  return found;
}

function firstWord(text: string): readonly [WordKind, string] {
  for (const [kind, pattern] of words) {
    const match = pattern.exec(text)?.[0];
    if (match !== undefined) return [kind, match];
  }
  return ["other", text.slice(0, 1)];
}

/** Words in small letters with `connector` between them; a number belongs to the word before it where it can. */
export function joinWords(text: string, connector: string): string {
  const list = split(text);
  let at = 0;
  let result = "";
  const kindAt = (index: number): WordKind | undefined => list[index]?.kind;
  const write = (word: Word | undefined) => {
    if (!word) return;
    if (word.kind === "connector") result += connector.repeat([...word.text].length);
    else result += word.kind === "upper" ? word.text.toLowerCase() : word.text;
  };
  const writeRun = () => {
    for (; kindAt(at) === "letters" || kindAt(at) === "number"; at++) write(list[at]);
  };
  const connects = (kind: WordKind | undefined): boolean =>
    kind !== undefined && kind !== "connector" && kind !== "punctuation";

  while (at < list.length - 1) {
    const word = list[at];
    write(word);
    at += 1;
    if (word?.kind === "number") {
      writeRun();
      if (connects(kindAt(at))) result += connector;
    } else if (word?.kind !== "connector" && word?.kind !== "punctuation") {
      if (kindAt(at) !== "number") {
        if (connects(kindAt(at))) result += connector;
      } else if (at < list.length - 1) {
        at += 1;
        if (kindAt(at) !== "letters") {
          write(list[at - 1]);
          if (connects(kindAt(at))) result += connector;
        } else {
          result += connector;
          write(list[at - 1]);
          writeRun();
          if (connects(kindAt(at))) result += connector;
        }
      }
    }
  }
  if (at < list.length) write(list[at]);
  return result;
}

const isUpper = (character: string): boolean => /^\p{Lu}$/u.test(character);

/** Words that each begin with a capital; connectors at the start, and second ones in a row, stay. */
export function pascalCase(text: string): string {
  const characters = [...text];
  const start = characters.findIndex((character) => !isConnector(character));
  // xstrings has the last connector twice here.
  if (start < 0) return text + (characters.at(-1) ?? "");
  let result = characters.slice(0, start).join("");
  let current = (characters[start] ?? "").toUpperCase();
  let isCapitals = isUpper(characters[start] ?? "");
  for (const next of characters.slice(start + 1)) {
    const previous = current;
    current = next;
    if (isConnector(current) && isConnector(previous)) {
      result += previous;
    } else if (isConnector(previous)) {
      isCapitals = isUpper(current);
      current = current.toUpperCase();
    } else {
      if (isCapitals && isUpper(current)) current = current.toLowerCase();
      else isCapitals = false;
      result += previous;
    }
  }
  return result + current;
}
