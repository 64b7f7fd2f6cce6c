/** DNS names as X.509-SVIDs carry them: host names of letters, digits, hyphens and underscores, or a wildcard. */
import { domainToASCII } from "node:url";
import { invalidArgument } from "./errors.ts";

const labelPattern = /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;
/** RFC 1035, 2.3.4, without the trailing dot. */
const longestName = 253;

/**
 * Accepts a name with an optional `*.` in front.
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text; unlike SPIRE, spaces and punctuation are refused.
 */
export function validateDnsName(name: string): string {
  if (!/^\p{ASCII}*$/u.test(name)) throw invalidArgument("name must be ascii");
  const stars = name.split("*").length - 1;
  if (stars > 1) throw invalidArgument("too many wildcards");
  if (stars === 1 && !name.startsWith("*.")) throw invalidArgument("wildcard must be first label");
  const rest = stars === 1 ? name.slice(2) : name;
  if (rest.trim() === "") throw invalidArgument("empty or only whitespace");
  if (rest.trim().endsWith(".")) throw invalidArgument("domain ends with dot");
  const labels = rest.split(".");
  if (rest.length > longestName || labels.includes("")) throw invalidLabel(rest);
  for (const label of labels) if (!isLabel(label)) throw invalidLabel(label);
  return name;
}

/** Two hyphens after two characters mark an encoding (RFC 5891, 4.2.3.1), of which there is one: Punycode. */
function isLabel(label: string): boolean {
  if (!labelPattern.test(label)) return false;
  if (label.slice(2, 4) !== "--") return true;
  return label.startsWith("xn--") && domainToASCII(label) === label;
}

const invalidLabel = (label: string) => invalidArgument(`idna error\nidna: invalid label "${label}"`);

/**
 * Refuses a name that a wildcard beside it covers already.
 * @throws SpireError INVALID_ARGUMENT with SPIRE's text.
 */
export function refuseCoveredNames(names: readonly string[]): void {
  const covered = names.find((name) => !name.startsWith("*") && names.includes(name.replace(/^[^.]*/, "*")));
  if (covered === undefined) return;
  throw invalidArgument(
    `name "${covered}" overlaps with an existing wildcard name in the list: wildcard overlap`,
  );
}
