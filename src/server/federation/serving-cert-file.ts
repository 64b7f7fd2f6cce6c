/** A bundle endpoint's certificate from files that the operator, or a program of theirs, replaces (profile https_web). */
import { readFile } from "node:fs/promises";
import type { Clock } from "../../core/clock.ts";
import { SpireError } from "../../core/errors.ts";
import type { Logger } from "../../core/log.ts";
import { startTask, type Task } from "../../core/tasks.ts";
import { checkPemPair } from "../../core/x509/pem-pair.ts";
import { warnOfExposedKey } from "../../files/exposed-key.ts";
import { reasonOf } from "../../files/failure.ts";
import { createChangingPair, type EndpointCertificate } from "./endpoint-certificate.ts";

export interface ServingCertFileOptions {
  /** Certificate chain, leaf first, PEM. */
  readonly certPath: string;
  /** Its private key, PEM, not encrypted. */
  readonly keyPath: string;
  /** Between two looks at the files. */
  readonly syncIntervalMs: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Looks at the files again and again. While they don't hold a certificate and its key, the last pair that did is
 * shown.
 * @throws SpireError FAILED_PRECONDITION when they don't hold one at first.
 */
export async function followServingCertFile(options: ServingCertFileOptions): Promise<EndpointCertificate> {
  const { syncIntervalMs, clock, log } = options;
  const first = await readPair(options);
  warnOfExposedKey(options.keyPath, log);
  const pair = createChangingPair(first);
  let shown = first;
  let task: Task | undefined;

  async function reload(): Promise<number> {
    const next = await readPair(options);
    if (next.cert !== shown.cert || next.key !== shown.key) {
      shown = next;
      pair.change(next);
      log.info("Reloaded bundle endpoint certificate", { cert_file_path: options.certPath });
    }
    return syncIntervalMs;
  }

  return {
    current: pair.current,
    onChange: pair.onChange,
    start() {
      task = startTask({
        name: "bundle endpoint certificate files",
        clock,
        log,
        backoff: { initialMs: syncIntervalMs, maximumMs: syncIntervalMs, jitter: 0 },
        run: reload,
      });
    },
    stop: async () => task?.stop(),
  };
}

interface TextPair {
  readonly cert: string;
  readonly key: string;
}

async function readPair({
  certPath,
  keyPath,
}: Pick<ServingCertFileOptions, "certPath" | "keyPath">): Promise<TextPair> {
  const [cert, key] = await Promise.all([read(certPath), read(keyPath)]);
  try {
    checkPemPair(cert, key, { certPath, keyPath });
  } catch (error) {
    throw failure(SpireError.from(error).message);
  }
  return { cert, key };
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw failure(`"${path}" can't be read: ${reasonOf(cause)}`);
  }
}

const failure = (reason: string): SpireError =>
  new SpireError("FAILED_PRECONDITION", `failed to load certificate of the bundle endpoint: ${reason}`);
