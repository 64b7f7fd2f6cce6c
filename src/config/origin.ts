/** Where the values of a configuration come from, and messages that say so. */
import { invalidArgument, type SpireError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import type { UnknownKey } from "./decode.ts";
import type { Environment } from "./text.ts";
import type { Position } from "./tree.ts";

/** A flag that takes the place of an option of the file. */
export interface Override {
  /** Such as `server.trust_domain`. */
  readonly path: string;
  /** Without the hyphen. */
  readonly flag: string;
  readonly value: string | number | boolean;
}

export interface Sources {
  /** Undefined = flags are all there is. */
  readonly path: string | undefined;
  readonly expandEnv: boolean;
  readonly environment: Environment;
  /** They beat the file. */
  readonly overrides: readonly Override[];
}

export interface Origin {
  /** `file:line:column` or `-flag`, of the value or else of the section around it; empty when it is neither's. */
  placeOf(path: string): string;
  place(position: Position): string;
  /** SPIRE's message, and in parentheses the place and what to do. @returns INVALID_ARGUMENT. */
  problem(message: string, path: string, remedy?: string): SpireError;
}

/** @param file undefined when all comes from flags. */
export function createOrigin(
  file: string | undefined,
  places: ReadonlyMap<string, Position>,
  overrides: readonly Override[],
): Origin {
  const place = ({ line, column }: Position): string => `${file}:${line}:${column}`;
  const placeOf = (path: string): string => {
    const override = overrides.find((candidate) => candidate.path === path);
    if (override) return `-${override.flag}`;
    const position = places.get(path);
    if (position) return place(position);
    const around = path.replace(/(\.[^.[\]]*|\[[^\]]*\])$/, "");
    return around === path || around === "" ? (file ?? "") : placeOf(around);
  };
  return {
    place,
    placeOf,
    problem: (message, path, remedy) => invalidArgument(`${message}${inParentheses(placeOf(path), remedy)}`),
  };
}

/** ` (place: remedy)`, or what there is of it. */
export function inParentheses(place: string, remedy: string | undefined): string {
  const parts = [place, remedy ?? ""].filter((part) => part !== "");
  return parts.length > 0 ? ` (${parts.join(": ")})` : "";
}

/** `"bogus" is unknown in server; did you mean "bogey"?` */
export function describeUnknown({ name, section, known }: UnknownKey): string {
  const near = nearest(name, known);
  return `"${name}" is unknown in ${section}${near === undefined ? "" : `; did you mean "${near}"?`}`;
}
