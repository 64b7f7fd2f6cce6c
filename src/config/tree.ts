/** What a configuration text says, before anybody knows what it means: keys, values, and where each stands. */
import { SpireError } from "../core/errors.ts";

/** Both count from 1; columns count characters, not bytes. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface Literal {
  readonly kind: "string" | "integer" | "float" | "boolean";
  /** What a string holds, without quotes and escapes; anything else as it is written. */
  readonly text: string;
  readonly position: Position;
}

export interface List {
  readonly kind: "list";
  readonly items: readonly Node[];
  readonly position: Position;
}

export interface Key {
  readonly name: string;
  /** As it stands in the text. */
  readonly written: string;
  /** As in `"name" = 1`. */
  readonly quoted: boolean;
  readonly position: Position;
}

/** `a = 1` and `a {…}` have one key; `a "b" {…}` has two, and means the same as `a { b {…} }`. */
export interface Item {
  readonly keys: readonly Key[];
  readonly value: Node;
}

export interface Block {
  readonly kind: "block";
  /** In the order of the text; a key may come more than once. */
  readonly items: readonly Item[];
  readonly position: Position;
}

export type Node = Literal | List | Block;

/** The text can't be read. The message is `At <line>:<column>: <reason>`, as users of HCL know it. */
export class ConfigSyntaxError extends SpireError {
  readonly position: Position;

  constructor(position: Position, reason: string) {
    super("INVALID_ARGUMENT", `At ${position.line}:${position.column}: ${reason}`);
    this.position = position;
  }
}
