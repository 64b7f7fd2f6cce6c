/** The syntax tree of a template in Go's text/template language. */
import { quote } from "../go-text.ts";
import { type Piece, splitTemplate, syntaxError, type Token } from "./lex.ts";
import { createTokenReader, describe, type TokenReader } from "./token-reader.ts";

export type Operand =
  | { readonly kind: "dot" }
  | { readonly kind: "constant"; readonly value: undefined | boolean | bigint | number | string }
  | { readonly kind: "function"; readonly name: string }
  | { readonly kind: "field"; readonly path: readonly string[] }
  | { readonly kind: "variable"; readonly name: string; readonly path: readonly string[] }
  /** Parentheses, and what fields are asked of the result. */
  | { readonly kind: "pipeline"; readonly pipeline: Pipeline; readonly path: readonly string[] };

/** An operand and its arguments. */
export type Command = readonly [Operand, ...Operand[]];

export interface Pipeline {
  readonly line: number;
  /** Variables that take the value: new ones, or such as are there. */
  readonly variables: readonly string[];
  readonly assigns: boolean;
  readonly commands: readonly Command[];
}

type BranchKind = "if" | "with" | "range";

export interface BranchNode {
  readonly kind: BranchKind;
  readonly pipeline: Pipeline;
  readonly body: readonly Node[];
  readonly otherwise: readonly Node[];
}

export interface TemplateNode {
  readonly kind: "template";
  readonly name: string;
  readonly pipeline: Pipeline | undefined;
}

export type Node =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "action"; readonly pipeline: Pipeline }
  | BranchNode
  | { readonly kind: "break" | "continue" }
  | TemplateNode;

export interface Tree {
  readonly nodes: readonly Node[];
  /** By `define` and `block`. */
  readonly templates: ReadonlyMap<string, readonly Node[]>;
  /** The fields of the data itself that are named; those of other values can't be told without running it. */
  readonly fields: ReadonlySet<string>;
}

/** @throws SpireError INVALID_ARGUMENT with the line, if it is not the first, and what is wrong there. */
export function parseTemplate(text: string, isFunction: (name: string) => boolean): Tree {
  const templates = new Map<string, readonly Node[]>();
  const fields = new Set<string>();
  const parser = createParser(splitTemplate(text), isFunction, { templates, fields });
  return { nodes: parser.whole(), templates, fields };
}

/** What ends a list of nodes: `end`, or `else` with what follows on it. */
interface Ending {
  readonly word: "end" | "else";
  readonly tokens: TokenReader;
}

interface Scope {
  /** The variables that are declared here, `$` first. */
  readonly variables: string[];
  readonly loops: number;
  /** Whether `.` and `$` are the template's data. */
  readonly isData: { readonly dot: boolean; readonly root: boolean };
}

interface Found {
  readonly templates: Map<string, readonly Node[]>;
  readonly fields: Set<string>;
}

function createParser(
  pieces: readonly Piece[],
  isFunction: (name: string) => boolean,
  { templates, fields }: Found,
) {
  let at = 0;

  /** Nodes up to the ending, or the end of the text. */
  function list(scope: Scope): { readonly nodes: readonly Node[]; readonly ending: Ending | undefined } {
    const nodes: Node[] = [];
    for (let piece = pieces[at]; piece; piece = pieces[at]) {
      at += 1;
      if (piece.kind === "text") {
        if (piece.text !== "") nodes.push(piece);
        continue;
      }
      const tokens = createTokenReader(piece.tokens, piece.line);
      const word = tokens.peekWord();
      if (word === "end" || word === "else") {
        tokens.next();
        return { nodes, ending: { word, tokens } };
      }
      const node = action(tokens, scope);
      if (node) nodes.push(node);
    }
    return { nodes, ending: undefined };
  }

  function closed(scope: Scope, line: number, allowsElse: boolean) {
    const { nodes, ending } = list(scope);
    if (!ending) throw syntaxError(line, "unexpected EOF");
    if (ending.word === "else" && !allowsElse) throw syntaxError(ending.tokens.line, "unexpected {{else}}");
    if (ending.word === "end") ending.tokens.end("end");
    return { nodes, ending };
  }

  function action(tokens: TokenReader, scope: Scope): Node | undefined {
    const word = tokens.peekWord();
    switch (word) {
      case "if":
      case "with":
      case "range":
        tokens.next();
        return branch(word, tokens, scope);
      case "break":
      case "continue":
        tokens.next();
        tokens.end(word);
        if (scope.loops === 0) throw syntaxError(tokens.line, `{{${word}}} outside {{range}}`);
        return { kind: word };
      case "define":
      case "block":
      case "template":
        tokens.next();
        return named(word, tokens, scope);
      default:
        return { kind: "action", pipeline: pipeline(tokens, scope, "command") };
    }
  }

  function branch(kind: BranchKind, tokens: TokenReader, scope: Scope): Node {
    const inner: Scope = {
      variables: [...scope.variables],
      loops: scope.loops + (kind === "range" ? 1 : 0),
      isData: scope.isData,
    };
    const condition = pipeline(tokens, inner, kind);
    const isData = kind === "if" ? scope.isData : { ...scope.isData, dot: false };
    const { nodes: body, ending } = closed({ ...inner, isData }, tokens.line, true);
    if (ending.word === "end") return { kind, pipeline: condition, body, otherwise: [] };
    const afterElse = { ...inner, loops: scope.loops, variables: [...inner.variables] };
    return { kind, pipeline: condition, body, otherwise: otherwise(kind, ending.tokens, afterElse) };
  }

  /** `{{else if …}}` is `{{else}}{{if …}}` with one `{{end}}` for both. */
  function otherwise(kind: BranchKind, tokens: TokenReader, scope: Scope): readonly Node[] {
    if (kind !== "range" && tokens.peekWord() === kind) {
      tokens.next();
      return [branch(kind, tokens, scope)];
    }
    tokens.end("else");
    return closed(scope, tokens.line, false).nodes;
  }

  function named(word: "define" | "block" | "template", tokens: TokenReader, scope: Scope): Node | undefined {
    const name = tokens.next();
    if (name?.kind !== "string") throw syntaxError(tokens.line, `unexpected token in ${word} clause`);
    if (word === "define") tokens.end("define clause");
    const argument = tokens.isDone && word !== "block" ? undefined : pipeline(tokens, scope, word);
    if (word === "template") return { kind: "template", name: name.value, pipeline: argument };
    const isData = { dot: false, root: false };
    const body = closed({ variables: ["$"], loops: 0, isData }, tokens.line, false).nodes;
    templates.set(name.value, body);
    return word === "define" ? undefined : { kind: "template", name: name.value, pipeline: argument };
  }

  function pipeline(tokens: TokenReader, scope: Scope, context: string): Pipeline {
    const { variables, assigns } = declarations(tokens, scope, context);
    const commands = commandsUntil(tokens, scope, context, false);
    if (!assigns) scope.variables.push(...variables);
    return { line: tokens.line, variables, assigns, commands };
  }

  function declarations(tokens: TokenReader, scope: Scope, context: string) {
    const [first, comma, second, symbol] = tokens.ahead(4);
    const none = { variables: [], assigns: false };
    if (first?.kind !== "variable") return none;
    if (isAssignment(comma)) return declare([first], comma);
    if (comma?.kind !== "symbol" || comma.text !== ",") return none;
    if (context !== "range" || second?.kind !== "variable") {
      throw syntaxError(tokens.line, `too many declarations in ${context}`);
    }
    if (!isAssignment(symbol)) throw syntaxError(tokens.line, "range can only initialize variables");
    return declare([first, second], symbol);

    function declare(names: readonly (Token & { kind: "variable" })[], { text }: { readonly text: string }) {
      tokens.skip(names.length * 2);
      const variables = names.map((name) => `$${name.text}`);
      const assigns = text === "=";
      if (assigns) for (const name of variables) checkVariable(name, scope, tokens.line);
      return { variables, assigns };
    }
  }

  /** Up to the end of the action or, in parentheses, up to `)`. */
  function commandsUntil(tokens: TokenReader, scope: Scope, context: string, isNested: boolean): Command[] {
    const commands: Command[] = [];
    for (;;) {
      const [first, ...rest] = operands(tokens, scope);
      const separator = tokens.next();
      const isLast = isNested ? isSymbol(separator, ")") : separator === undefined;
      if (!first && commands.length > 0 && isLast) return commands;
      if (!first) {
        if (commands.length > 0 || !isLast) {
          throw syntaxError(
            tokens.line,
            commands.length > 0 ? "missing value for command" : describe(separator),
          );
        }
        throw syntaxError(tokens.line, `missing value for ${context}`);
      }
      if (commands.length > 0 && (first.kind === "constant" || first.kind === "dot")) {
        throw syntaxError(tokens.line, `non executable command in pipeline stage ${commands.length + 1}`);
      }
      commands.push([first, ...rest]);
      if (isLast) return commands;
      if (separator === undefined) throw syntaxError(tokens.line, "unclosed left paren");
      if (!isSymbol(separator, "|")) throw syntaxError(tokens.line, describe(separator));
    }
  }

  function operands(tokens: TokenReader, scope: Scope): Operand[] {
    const found: Operand[] = [];
    for (;;) {
      const [next] = tokens.ahead(1);
      if (!next || (next.kind === "symbol" && next.text !== "(")) return found;
      if (found.length > 0 && !next.isSpaced) throw syntaxError(tokens.line, describe(next));
      found.push(operand(tokens, scope));
    }
  }

  function operand(tokens: TokenReader, scope: Scope): Operand {
    const token = tokens.next();
    switch (token?.kind) {
      case "number":
      case "string":
        return noPath(tokens, { kind: "constant", value: token.value });
      case "word":
        return readWord(token.text, tokens);
      case "variable": {
        const name = `$${token.text}`;
        checkVariable(name, scope, tokens.line);
        const path = tokens.path();
        const [first] = path;
        if (first !== undefined && name === "$" && scope.isData.root) fields.add(first);
        return { kind: "variable", name, path };
      }
      case "field":
        if (token.text === "") return noPath(tokens, { kind: "dot" });
        if (scope.isData.dot) fields.add(token.text);
        return { kind: "field", path: [token.text, ...tokens.path()] };
      default:
        return {
          kind: "pipeline",
          pipeline: {
            line: tokens.line,
            variables: [],
            assigns: false,
            commands: commandsUntil(tokens, scope, "parenthesized pipeline", true),
          },
          path: tokens.path(),
        };
    }
  }

  function readWord(name: string, tokens: TokenReader): Operand {
    if (name === "true" || name === "false")
      return noPath(tokens, { kind: "constant", value: name === "true" });
    if (name === "nil") return noPath(tokens, { kind: "constant", value: undefined });
    if (!isFunction(name)) throw syntaxError(tokens.line, `function ${quote(name)} not defined`);
    const path = tokens.path();
    if (path.length === 0) return { kind: "function", name };
    const commands: Command[] = [[{ kind: "function", name }]];
    return {
      kind: "pipeline",
      pipeline: { line: tokens.line, variables: [], assigns: false, commands },
      path,
    };
  }

  return {
    whole(): readonly Node[] {
      const isData = { dot: true, root: true };
      const { nodes, ending } = list({ variables: ["$"], loops: 0, isData });
      if (ending) throw syntaxError(ending.tokens.line, `unexpected {{${ending.word}}}`);
      return nodes;
    },
  };
}

const isSymbol = (token: Token | undefined, text: string): boolean =>
  token?.kind === "symbol" && token.text === text;

const isAssignment = (token: Token | undefined): token is Token & { kind: "symbol" } =>
  isSymbol(token, ":=") || isSymbol(token, "=");

function checkVariable(name: string, { variables }: Scope, line: number): void {
  if (!variables.includes(name)) throw syntaxError(line, `undefined variable ${quote(name)}`);
}

function noPath(tokens: TokenReader, operand: Operand): Operand {
  if (tokens.path().length > 0) throw syntaxError(tokens.line, "unexpected . after term");
  return operand;
}
