/** Walks the tokens of one action. */
import { quote } from "../go-text.ts";
import { syntaxError, type Token } from "./lex.ts";

export const describe = (token: Token | undefined): string => {
  if (!token) return "unexpected end of the action";
  return `unexpected ${quote(String("value" in token ? token.value : token.text))}`;
};

export interface TokenReader {
  readonly line: number;
  readonly isDone: boolean;
  next(): Token | undefined;
  skip(count: number): void;
  ahead(count: number): readonly (Token | undefined)[];
  /** The next token, if it is a word. */
  peekWord(): string | undefined;
  /** The fields that follow without a space. */
  path(): readonly string[];
  /** @throws SpireError when there is more. */
  end(context: string): void;
}

export function createTokenReader(tokens: readonly Token[], line: number): TokenReader {
  let at = 0;
  const peek = () => tokens[at];
  return {
    line,
    get isDone() {
      return at >= tokens.length;
    },
    next: () => tokens[at++],
    skip(count) {
      at += count;
    },
    ahead: (count) => tokens.slice(at, at + count),
    peekWord() {
      const token = peek();
      return token?.kind === "word" ? token.text : undefined;
    },
    path() {
      const names: string[] = [];
      for (let token = peek(); token?.kind === "field" && !token.isSpaced; token = peek()) {
        if (token.text === "") throw syntaxError(line, "unexpected . after term");
        names.push(token.text);
        at += 1;
      }
      return names;
    },
    end(context) {
      const token = peek();
      if (token) throw syntaxError(line, `${describe(token)} in ${context}`);
    },
  };
}
