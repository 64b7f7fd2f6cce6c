/** DNS names as X.509-SVIDs carry them: host names of letters, digits, hyphens and underscores, or a wildcard. */
import { invalidArgument } from "./errors.ts";

const labelPattern = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
/** RFC 1035, 2.3.4, without the trailing dot. */
const longestName = 253;

/**
 * Accepts a name with an optional `*.` in front.
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text; unlike SPIRE, spaces and non-ASCII letters are refused
 * (an IA5String can't hold the latter, so no certificate could be made).
 */
export function validateDnsName(name: string): string {
  if (name.trim() === "") throw invalidArgument("empty or only whitespace");
  if (name.endsWith(".")) throw invalidArgument("domain ends with dot");
  const rest = name.startsWith("*.") ? name.slice(2) : name;
  if (rest.includes("*")) throw invalidArgument("wildcard must be first label");
  const labels = rest.split(".");
  if (rest.length > longestName || labels.includes("")) throw invalidLabel(rest);
  for (const label of labels) if (!labelPattern.test(label)) throw invalidLabel(label);
  return name;
}

const invalidLabel = (label: string) => invalidArgument(`idna error\nidna: invalid label "${label}"`);
