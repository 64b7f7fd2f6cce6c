/** The words in which template functions are written. */
import { asText, type Value } from "./values.ts";

export interface GoFunction {
  /** Numbers of arguments. */
  readonly least: number;
  readonly most: number;
  /** @throws SpireError INVALID_ARGUMENT for what Go would refuse or panic on. */
  readonly call: (values: readonly Value[], name: string) => Value;
}

type Implementation = GoFunction["call"];

/** Takes exactly so many arguments. */
export const exactly = (count: number, call: Implementation): GoFunction => ({
  least: count,
  most: count,
  call,
});

/** Takes so many arguments, and any number more. */
export const atLeast = (count: number, call: Implementation): GoFunction => ({
  least: count,
  most: Number.POSITIVE_INFINITY,
  call,
});

/** One text in, one value out. */
export const ofText = (convert: (text: string) => Value): GoFunction =>
  exactly(1, ([text]) => convert(asText(text)));

/** Under a second name that begins with `must`: here both fail alike. */
export const withMust = (functions: Readonly<Record<string, GoFunction>>): Record<string, GoFunction> => ({
  ...functions,
  ...Object.fromEntries(
    Object.entries(functions).map(([name, found]) => [
      `must${name[0]?.toUpperCase()}${name.slice(1)}`,
      found,
    ]),
  ),
});
