/** A bundle endpoint's certificate by ACME: got when there is none, renewed in good time, kept in the data directory. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, unixSeconds } from "../../../core/clock.ts";
import { SpireError } from "../../../core/errors.ts";
import { generateKey, importPrivateKey, type LocalKey } from "../../../core/keys.ts";
import type { Logger } from "../../../core/log.ts";
import { startTask, type Task } from "../../../core/tasks.ts";
import { createCertificateRequest } from "../../../core/x509/csr.ts";
import { encodeName } from "../../../core/x509/name.ts";
import { reasonOf } from "../../../files/failure.ts";
import { removeUnfinished, replaceFile } from "../../../files/replace-file.ts";
import { createChangingPair, type EndpointCertificate, type PemPair } from "../endpoint-certificate.ts";
import { createChallengeCertificate, formatPrivateKey } from "./challenge.ts";
import { obtainCertificate } from "./client.ts";

export interface AcmeCertificateOptions {
  readonly directoryUrl: string;
  readonly domainName: string;
  /** Contact of the account; empty = none. */
  readonly email: string;
  readonly tosAccepted: boolean;
  /** For the account's key and the certificate; made with 0700. */
  readonly directory: string;
  /** PEM certificates that vouch for the ACME service; undefined = those of system and runtime. */
  readonly webRoots?: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** A certificate is renewed once no more than this share of its life is left. */
const renewalShare = 1 / 3;
const longestWaitMs = 3_600_000;

/**
 * Let's Encrypt bears with five failed validations of a name within an hour: 2, 4, 8, 16 and 32 minutes apart are as
 * many.
 */
const backoff = { initialMs: 120_000, maximumMs: longestWaitMs, factor: 2 };

/**
 * Shows the certificate that it kept, if that still holds; another one comes after `start`.
 * @throws SpireError FAILED_PRECONDITION when the directory or a file in it can't be used.
 */
export async function keepAcmeCertificate(options: AcmeCertificateOptions): Promise<EndpointCertificate> {
  const { domainName, directory, clock, log } = options;
  const path = join(directory, `${domainName}.pem`);
  const accountKey = await openAccount(directory);
  removeUnfinished(path);
  let held = heldIn(await readIfThere(path), domainName, clock);
  const pair = createChangingPair(held?.pair);
  let challenge: PemPair | undefined;

  async function renew(signal: AbortSignal): Promise<Held> {
    const key = await generateKey("ec-p256");
    const chain = await obtainCertificate(
      { ...options, accountKey },
      {
        domainName,
        csr: await createCertificateRequest({ key, dnsNames: [domainName], subjectDer: encodeName({}) }),
        async answer(keyAuthorization) {
          challenge =
            keyAuthorization === undefined
              ? undefined
              : await createChallengeCertificate(domainName, keyAuthorization, unixSeconds(clock));
        },
        signal,
      },
    );
    const text = `${formatPrivateKey(key)}${chain}`;
    const got = heldIn(text, domainName, clock);
    if (!got) throw new SpireError("UNAVAILABLE", `ACME service: its certificate is not for "${domainName}"`);
    await replaceFile(path, text);
    return got;
  }

  async function keep(signal: AbortSignal): Promise<number> {
    if (!held || clock.now() >= held.renewAtMs) {
      held = await renew(signal);
      pair.change(held.pair);
      log.info("Got bundle endpoint certificate by ACME", {
        domain_name: domainName,
        expiration: new Date(held.endsAtMs).toISOString(),
      });
    }
    return Math.max(1_000, Math.min(longestWaitMs, held.renewAtMs - clock.now()));
  }

  let task: Task | undefined;
  return {
    current: pair.current,
    onChange: pair.onChange,
    challenge: () => challenge,
    start() {
      task = startTask({
        name: "bundle endpoint certificate by ACME",
        clock,
        log,
        backoff,
        run: keep,
      });
    },
    stop: async () => task?.stop(),
  };
}

interface Held {
  readonly pair: PemPair;
  readonly renewAtMs: number;
  readonly endsAtMs: number;
}

/** Key and chain of a text; undefined unless they belong together, are for the name, and still hold. */
function heldIn(text: string | undefined, domainName: string, clock: Clock): Held | undefined {
  if (text === undefined) return undefined;
  const [key = ""] = /-----BEGIN PRIVATE KEY-----[^-]*-----END PRIVATE KEY-----\n/.exec(text) ?? [];
  const cert = text.replace(key, "");
  const certificate = attempt(() => new X509Certificate(cert));
  const privateKey = attempt(() => createPrivateKey(key));
  if (!certificate || !privateKey || !belongTogether(certificate, privateKey, domainName)) return undefined;
  const [startsAtMs, endsAtMs] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  if (clock.now() >= endsAtMs) return undefined;
  const renewAtMs = endsAtMs - (endsAtMs - startsAtMs) * renewalShare;
  return { pair: { cert, key }, renewAtMs, endsAtMs };
}

const belongTogether = (certificate: X509Certificate, key: KeyObject, domainName: string): boolean =>
  certificate.checkPrivateKey(key) && certificate.checkHost(domainName) !== undefined;

function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}

/** Makes the account's key when there is none; the service knows the account by it. */
async function openAccount(directory: string): Promise<LocalKey> {
  const path = join(directory, "account_key.pem");
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw failure(`"${directory}" can't be made: ${reasonOf(cause)}`);
  }
  removeUnfinished(path);
  const text = await readIfThere(path);
  if (text !== undefined) {
    const key = attempt(() => importPrivateKey(createPrivateKey(text)));
    if (key?.type === "ec-p256") return key;
    throw failure(`"${path}" holds no key of an account; remove it to register a new one`);
  }
  const key = await generateKey("ec-p256");
  try {
    await replaceFile(path, formatPrivateKey(key));
  } catch (cause) {
    throw failure(`"${path}" can't be written: ${reasonOf(cause)}`);
  }
  return key;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (cause instanceof Error && Reflect.get(cause, "code") === "ENOENT") return undefined;
    throw failure(`"${path}" can't be read: ${reasonOf(cause)}`);
  }
}

const failure = (reason: string): SpireError =>
  new SpireError("FAILED_PRECONDITION", `certificate of the bundle endpoint by ACME: ${reason}`);
