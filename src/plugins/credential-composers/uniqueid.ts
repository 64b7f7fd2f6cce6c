/** Makes each workload's subject its own, as RFC 5280 (4.1.2.6) wants it: adds an x500UniqueIdentifier. */
import { hash } from "node:crypto";
import type { CredentialComposer } from "./index.ts";

/** id-at-x500UniqueIdentifier (RFC 4519, 2.44, under its older name). */
const uniqueIdentifier = "2.5.4.45";
const hexDigits = 32;

/** The first 16 bytes of SHA-256 over the SPIFFE ID, in lowercase hex. */
export const uniqueId: CredentialComposer = {
  composeWorkloadX509Svid(spiffeId, { subject, ...others }) {
    const value = hash("sha256", spiffeId, "hex").slice(0, hexDigits);
    const extra = (subject.extra ?? []).filter(({ oid }) => oid !== uniqueIdentifier);
    return { ...others, subject: { ...subject, extra: [...extra, { oid: uniqueIdentifier, value }] } };
  },
};
