/** Fills a parsed template: fields, calls, branches and loops as Go's text/template has them, with missingkey=error. */
import { quote } from "../go-text.ts";
import type { Functions } from "./functions.ts";
import type { BranchNode, Command, Node, Operand, Pipeline, TemplateNode, Tree } from "./parse.ts";
import { failed, isList, isMap, isStruct, isTrue, print, sortedKeys, typeOf, type Value } from "./values.ts";

/** Bounds what a template that calls itself can cost. */
const deepest = 100;
/** Characters; no agent's path is that long. */
const longestOutput = 1_000_000;
/** Rounds of all loops together. */
const mostRounds = 100_000;

interface Frame {
  readonly dot: Value;
  /** The newest last. */
  readonly variables: { readonly name: string; value: Value }[];
  readonly depth: number;
}

type Signal = "break" | "continue" | undefined;

/** @throws SpireError INVALID_ARGUMENT that says what can't be computed. */
export function fillTemplate({ nodes, templates }: Tree, data: Value, functions: Functions): string {
  let output = "";
  let rounds = 0;
  const write = (text: string): void => {
    output += text;
    if (output.length > longestOutput) throw failed("the result is too long");
  };
  run(nodes, { dot: data, variables: [{ name: "$", value: data }], depth: 0 });
  return output;

  function run(list: readonly Node[], frame: Frame): Signal {
    for (const node of list) {
      const signal = runNode(node, frame);
      if (signal) return signal;
    }
    return undefined;
  }

  function runNode(node: Node, frame: Frame): Signal {
    switch (node.kind) {
      case "text":
        write(node.text);
        return undefined;
      case "action": {
        const value = evaluate(node.pipeline, frame);
        if (node.pipeline.variables.length === 0) write(print(value));
        return undefined;
      }
      case "if":
      case "with":
        return scoped(frame, (inner) => {
          const value = evaluate(node.pipeline, inner);
          const isMet = isTrue(value);
          const dot = isMet && node.kind === "with" ? value : frame.dot;
          return run(isMet ? node.body : node.otherwise, { ...inner, dot });
        });
      case "range":
        return scoped(frame, (inner) => loop(node, inner));
      case "template":
        call(node, frame);
        return undefined;
      case "break":
      case "continue":
        return node.kind;
    }
  }

  function scoped(frame: Frame, work: (inner: Frame) => Signal): Signal {
    const mark = frame.variables.length;
    const signal = work(frame);
    frame.variables.length = mark;
    return signal;
  }

  function call({ name, pipeline }: TemplateNode, frame: Frame): void {
    const body = templates.get(name);
    if (!body) throw failed(`template ${quote(name)} not defined`);
    if (frame.depth >= deepest) throw failed(`template ${quote(name)} calls itself too often`);
    const dot = pipeline && evaluate(pipeline, frame);
    run(body, { dot, variables: [{ name: "$", value: dot }], depth: frame.depth + 1 });
  }

  function loop({ pipeline, body, otherwise }: BranchNode, frame: Frame): Signal {
    const value = evaluate({ ...pipeline, variables: [] }, frame);
    // What {{else}} sees in them.
    bind(
      pipeline,
      pipeline.variables.map(() => value),
      frame,
    );
    const mark = frame.variables.length;
    let isEmpty = true;
    for (const [key, element] of elementsOf(value)) {
      isEmpty = false;
      rounds += 1;
      if (rounds > mostRounds) throw failed("the loops go on for too long");
      bind(pipeline, pipeline.variables.length > 1 ? [key, element] : [element], frame);
      const signal = run(body, { ...frame, dot: element });
      frame.variables.length = mark;
      if (signal === "break") return undefined;
    }
    return isEmpty ? run(otherwise, frame) : undefined;
  }

  function bind({ variables, assigns }: Pipeline, values: readonly Value[], frame: Frame): void {
    for (const [at, name] of variables.entries()) {
      const value = values[at];
      const known = assigns ? frame.variables.findLast((variable) => variable.name === name) : undefined;
      if (known) known.value = value;
      else frame.variables.push({ name, value });
    }
  }

  function evaluate(pipeline: Pipeline, frame: Frame): Value {
    let last: Last;
    for (const command of pipeline.commands) last = { value: runCommand(command, frame, last) };
    bind(pipeline, [last?.value], frame);
    return last?.value;
  }

  /** @param last what the command before in the pipeline gave: the last argument. */
  function runCommand([first, ...rest]: Command, frame: Frame, last: Last): Value {
    const given = rest.length + (last ? 1 : 0);
    switch (first.kind) {
      case "function":
        return callFunction(first.name, rest, frame, last);
      case "field":
      case "variable":
      case "pipeline": {
        const path = first.path;
        if (given === 0) return follow(startOf(first, frame), path, []);
        if (path.length === 0) throw failed(`can't give argument to non-function ${describe(first)}`);
        const values = [
          ...rest.map((operand) => resolveOperand(operand, frame)),
          ...(last ? [last.value] : []),
        ];
        return follow(startOf(first, frame), path, values);
      }
      default:
        if (given > 0) throw failed(`can't give argument to non-function ${describe(first)}`);
        if (first.kind === "constant" && first.value === undefined) throw failed("nil is not a command");
        return resolveOperand(first, frame);
    }
  }

  function resolveOperand(operand: Operand, frame: Frame): Value {
    switch (operand.kind) {
      case "dot":
        return frame.dot;
      case "constant":
        return operand.value;
      case "function":
        return callFunction(operand.name, [], frame, undefined);
      default:
        return follow(startOf(operand, frame), operand.path, []);
    }
  }

  function startOf(operand: Extract<Operand, { readonly path: readonly string[] }>, frame: Frame): Value {
    if (operand.kind === "field") return frame.dot;
    if (operand.kind === "pipeline") return evaluate(operand.pipeline, frame);
    return frame.variables.findLast(({ name }) => name === operand.name)?.value;
  }

  function callFunction(name: string, operands: readonly Operand[], frame: Frame, last: Last): Value {
    if (name === "and" || name === "or") return shortCut(name, operands, frame, last);
    const found = functions.get(name);
    if (!found) throw failed(`function ${quote(name)} not defined`);
    const values = [
      ...operands.map((operand) => resolveOperand(operand, frame)),
      ...(last ? [last.value] : []),
    ];
    if (values.length < found.least || values.length > found.most) {
      const want = found.least === found.most ? found.least : `at least ${found.least}`;
      throw failed(`wrong number of args for ${name}: want ${want} got ${values.length}`);
    }
    const value = found.call(values, name);
    // Whatever doubles itself in a loop ends here.
    const isSized = typeof value === "string" || isList(value);
    if (isSized && value.length > longestOutput) throw failed(`the result of ${name} is too long`);
    return value;
  }

  /** The first that decides, or the last; what comes after it is not evaluated. */
  function shortCut(name: "and" | "or", operands: readonly Operand[], frame: Frame, last: Last): Value {
    if (operands.length + (last ? 1 : 0) === 0) {
      throw failed(`wrong number of args for ${name}: want at least 1 got 0`);
    }
    let value: Value;
    for (const operand of operands) {
      value = resolveOperand(operand, frame);
      if (isTrue(value) === (name === "or")) return value;
    }
    return last ? last.value : value;
  }
}

type Last = { readonly value: Value } | undefined;

/** Follows fields; arguments are for a method at the end of the path. */
function follow(start: Value, path: readonly string[], values: readonly Value[]): Value {
  let value = start;
  for (const [at, name] of path.entries()) {
    value = fieldOf(value, name, at === path.length - 1 ? values : []);
  }
  return value;
}

function fieldOf(value: Value, name: string, values: readonly Value[]): Value {
  if (value === undefined) throw failed(`nil data; no entry for key ${quote(name)}`);
  if (isMap(value)) {
    if (values.length > 0) throw failed(`${name} is not a method but has arguments`);
    if (!value.entries.has(name)) throw failed(`map has no entry for key ${quote(name)}`);
    return value.entries.get(name);
  }
  if (!isStruct(value) || !Object.hasOwn(value.fields, name)) {
    throw failed(`can't evaluate field ${name} in type ${typeOf(value)}`);
  }
  const field = value.fields[name];
  if (typeof field === "function") return field(...values);
  if (values.length > 0) throw failed(`${name} is not a method but has arguments`);
  return field;
}

function* elementsOf(value: Value): Generator<readonly [Value, Value]> {
  if (value === undefined) return;
  if (typeof value === "bigint") {
    for (let at = 0n; at < value; at += 1n) yield [at, at];
  } else if (value instanceof Uint8Array || isList(value)) {
    const list: readonly Value[] = value instanceof Uint8Array ? [...value].map(BigInt) : value;
    for (const [at, element] of list.entries()) yield [BigInt(at), element];
  } else if (isMap(value)) {
    for (const key of sortedKeys(value)) yield [key, value.entries.get(key)];
  } else {
    throw failed(`range can't iterate over ${typeOf(value)}`);
  }
}

function describe(operand: Operand): string {
  if (operand.kind === "constant") return String(operand.value);
  return operand.kind === "variable" ? operand.name : operand.kind;
}
