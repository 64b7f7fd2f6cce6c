/** The functions that agent path templates may call: Go's own, and those of sprig that SPIRE lets through. */
import { builtins } from "./builtins.ts";
import type { GoFunction } from "./define.ts";
import { dictFunctions } from "./dicts.ts";
import { encodingFunctions } from "./encodings.ts";
import { listFunctions } from "./lists.ts";
import { createRegexFunctions, type RegexEngine, regexFunctionNames } from "./regexes.ts";
import { textFunctions } from "./texts.ts";

export type Functions = ReadonlyMap<string, GoFunction>;

const plain: Functions = new Map(
  Object.entries({
    ...builtins,
    ...textFunctions,
    ...listFunctions,
    ...dictFunctions,
    ...encodingFunctions,
  }),
);

/** `and` and `or` don't evaluate all of their arguments, so they are part of the evaluation. */
const special: ReadonlySet<string> = new Set(["and", "or"]);

export const isFunction = (name: string): boolean =>
  special.has(name) || plain.has(name) || regexFunctionNames.has(name);

/** The functions of sprig: what Go has besides is in every template. */
export const functionNames: readonly string[] = [...plain.keys(), ...regexFunctionNames].filter(
  (name) => !Object.hasOwn(builtins, name),
);

/** @param regex undefined = the template calls none of `regexFunctionNames`. */
export const functionsWith = (regex: RegexEngine | undefined): Functions =>
  regex ? new Map([...plain, ...Object.entries(createRegexFunctions(regex))]) : plain;
