/** Where this server answers otherwise than the recorded one: on purpose, with the reason. */
import type { Outcome } from "./golden-calls.ts";

export interface Difference {
  /** What it answers instead. */
  readonly outcome: Outcome;
  /** What users gain by it. */
  readonly reason: string;
}

const ok: Outcome = { code: "OK", message: "", statuses: [] };
const refused = (code: string, message: string): Outcome => ({ code, message, statuses: [] });
const item = (code: number, message: string): Outcome => ({ ...ok, statuses: [{ code, message }] });
const badDnsName = 'idna error\nidna: invalid label "a b"';

/** By file and name of the case. */
export const differences: Readonly<Record<string, Difference>> = {
  "attest-agent/token-after-bad-csr": {
    outcome: ok,
    reason: "a malformed CSR doesn't use up the join token, so the node can try again",
  },
  "attest-agent/csr-bad-signature": {
    outcome: refused(
      "INVALID_ARGUMENT",
      "failed to verify CSR signature: signature does not match the public key",
    ),
    reason: "an SVID is for who holds the key, so the CSR has to prove it",
  },
  "entry-create/spiffe-id-2049": {
    outcome: item(3, "failed to convert entry: invalid spiffe ID: SPIFFE ID is longer than 2048 bytes"),
    reason: "the standard's limit: other implementations may refuse the SVID",
  },
  "entry-create/dns-bad-char": {
    outcome: item(3, `failed to convert entry: invalid DNS name: ${badDnsName}`),
    reason: "no client ever matches a DNS name with a space",
  },
  "entry-create/dns-underscore": {
    outcome: item(0, "OK"),
    reason: "recorded against the entry that dns-bad-char had made, which is refused here",
  },
  "entry-create/federates-with-own": {
    outcome: item(
      3,
      'failed to convert entry: invalid federated trust domain: "example.org" is the server\'s own trust domain, which every workload trusts already',
    ),
    reason: "such an entry breaks every later sync of its agents",
  },
  "entry-create/negative-expiry": {
    outcome: item(3, "failed to convert entry: expiry is below zero"),
    reason: "the entry would be pruned within minutes, and nobody meant that",
  },
  "entry-create/past-expiry": {
    outcome: item(3, "failed to convert entry: expiry is in the past"),
    reason: "the entry would be pruned within minutes, and nobody meant that",
  },
  "entry-read/list-filter-unknown-match": {
    outcome: refused("INVALID_ARGUMENT", "malformed selectors filter: unknown match behavior 99"),
    reason: "the mistake is the caller's, and the number that was sent is named",
  },
  "entry-update-delete/mask-bad-dns": {
    outcome: item(3, `failed to convert entry: invalid DNS name: ${badDnsName}`),
    reason: "no client ever matches a DNS name with a space",
  },
  "entry-update-delete/becomes-duplicate-of-other": {
    outcome: item(6, "failed to update entry: similar entry already exists"),
    reason: "two identical entries can't be made by a creation either",
  },
  "svid/newjwt-empty-audience": {
    outcome: refused(
      "INVALID_ARGUMENT",
      "failed to sign JWT-SVID: invalid JWT-SVID audience: cannot be empty",
    ),
    reason: "the mistake is the caller's; agents retry what is INTERNAL",
  },
  "svid/mintx509-bad-dns": {
    outcome: refused("INVALID_ARGUMENT", `CSR DNS name is invalid: ${badDnsName}`),
    reason: "no client ever matches a DNS name with a space",
  },
};
