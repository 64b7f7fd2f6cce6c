/** A text read character by character, forwards and one step back, with the line and column of each character. */
import type { Position } from "./tree.ts";

/** What reading beyond the end gives; a null character in the text is refused, so they can't be confused. */
export const end = "\0";

export interface Characters {
  /** The next character; `end` after the last, however often. */
  next(): string;
  /** Steps back over the character that was read last; it must not have been the end. */
  back(): void;
  /** The next character, unread. */
  peek(): string;
  /** How many characters were read. */
  offset(): number;
  /** Where the character that was read last stands. */
  position(): Position;
  slice(start: number, stop: number): string;
}

/** @param complain is called for characters that no configuration may hold; reading goes on. */
export function createCharacters(text: string, complain: (reason: string) => void): Characters {
  const all = Array.from(text);
  let offset = 0;
  let line = 1;
  let column = 0;
  let lastLineLength = 0;
  let before = { line, column };
  return {
    next() {
      const character = all[offset];
      if (character === undefined) {
        // Each look beyond the end counts as a column: that is how HCL's own messages count.
        column += 1;
        return end;
      }
      before = { line, column };
      offset += 1;
      column += 1;
      if (character === "\n") {
        line += 1;
        lastLineLength = column;
        column = 0;
      }
      if (character === "\0") complain("unexpected null character (0x00)");
      if (character === "\uE123") complain("unicode code point U+E123 reserved for internal use");
      return character === "\uE123" ? "\uFFFD" : character;
    },
    back() {
      offset -= 1;
      ({ line, column } = before);
    },
    peek: () => all[offset] ?? end,
    offset: () => offset,
    position() {
      if (column > 0) return { line, column };
      return lastLineLength > 0 ? { line: line - 1, column: lastLineLength } : { line: 1, column: 1 };
    },
    slice: (start, stop) => all.slice(start, stop).join(""),
  };
}
