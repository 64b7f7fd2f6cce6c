/** Times as users and SPIRE's server write them in filters. */
import { invalidArgument } from "../core/errors.ts";
import { quote } from "./go-text.ts";

/** What `agent list` prints, and RFC 3339. */
const readableTimes = [
  /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d{4}) [A-Z]+$/,
  /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(Z|[+-]\d\d:\d\d)$/,
];

/**
 * The server's form of a time: `2006-01-02 15:04:05 -0700 -07`. Taken as well are the form that SPIRE itself prints
 * (its own commands refuse that) and RFC 3339.
 */
export function parseFilterTime(text: string): string {
  for (const pattern of readableTimes) {
    const [, day, time, zone = ""] = pattern.exec(text) ?? [];
    const offset = zone === "Z" ? "+0000" : zone.replace(":", "");
    if (day && time) return `${day} ${time} ${offset} ${offset.slice(0, 3)}`;
  }
  const failure = layoutFailure(text);
  if (failure === undefined) return text;
  throw invalidArgument(
    `date is not valid: parsing time ${quote(text)} as "2006-01-02 15:04:05 -0700 -07": ${failure}`,
  );
}

const layout: readonly [element: string, pattern: RegExp][] = [
  ["2006", /^\d{4}/],
  ["-", /^-/],
  ["01", /^(0[1-9]|1[0-2])/],
  ["-", /^-/],
  ["02", /^(0[1-9]|[12]\d|3[01])/],
  [" ", /^ +/],
  ["15", /^([01]\d|2[0-3])/],
  [":", /^:/],
  ["04", /^[0-5]\d/],
  [":", /^:/],
  ["05", /^[0-5]\d/],
  [" ", /^ +/],
  ["-0700", /^[+-]\d{4}/],
  [" ", /^ +/],
  ["-07", /^[+-]\d\d/],
];

function layoutFailure(text: string): string | undefined {
  let rest = text;
  for (const [element, pattern] of layout) {
    const match = pattern.exec(rest);
    if (!match) return `cannot parse ${quote(rest)} as ${quote(element)}`;
    rest = rest.slice(match[0].length);
  }
  return rest === "" ? undefined : `extra text: ${quote(rest)}`;
}
