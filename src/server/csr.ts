/** Certificate signing requests as they come in: parsed, and nothing believed before their signature holds. */
import { SpireError } from "../core/errors.ts";
import {
  type CertificateRequest,
  parseCertificateRequest,
  verifyCertificateRequest,
} from "../core/x509/csr.ts";

/** How a service words its refusals. */
export interface RequestWording {
  readonly malformed: string;
  readonly badSignature: string;
}

/** @throws SpireError INVALID_ARGUMENT when `der` is no CSR, or its signature is not by its own key. */
export function openCertificateRequest(der: Uint8Array, wording: RequestWording): CertificateRequest {
  const request = within(wording.malformed, () => parseCertificateRequest(der));
  within(wording.badSignature, () => verifyCertificateRequest(request));
  return request;
}

function within<T>(context: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw SpireError.from(error).within(context);
  }
}
