/** The part of ACME (RFC 8555) that gets a certificate for one domain name, over the runtime's HTTPS. */
import { createHash } from "node:crypto";
import { type Clock, sleep } from "../../../core/clock.ts";
import { SpireError } from "../../../core/errors.ts";
import type { LocalKey } from "../../../core/keys.ts";

export interface AcmeClientOptions {
  readonly directoryUrl: string;
  /** An ec-p256 key. */
  readonly accountKey: LocalKey;
  /** Contact; empty = none. */
  readonly email: string;
  readonly tosAccepted: boolean;
  /** PEM certificates that vouch for the service; undefined = those of system and runtime. */
  readonly webRoots?: readonly string[];
  readonly clock: Clock;
}

export interface AcmeOrder {
  readonly domainName: string;
  /** DER. */
  readonly csr: Uint8Array;
  /** Makes the endpoint answer a tls-alpn-01 validation with this key authorization, until the next call. */
  answer(keyAuthorization: string | undefined): Promise<void>;
  readonly signal: AbortSignal;
}

/** A requests' answer: what it says, and where the thing it speaks of is. */
interface Answer {
  readonly body: unknown;
  readonly text: string;
  readonly location: string;
  /** Milliseconds to wait before the next look. */
  readonly retryAfterMs: number;
}

const requestMs = 30_000;
/** Bytes; a certificate chain has some thousands. */
const longestAnswer = 1024 * 1024;
const pollMs = 2_000;
const longestPollMs = 60_000;
/** Looks at one thing before it is given up; with the waits above, some minutes. */
const mostPolls = 60;
/** A nonce may be refused at any time (RFC 8555, section 6.5). */
const mostNonces = 8;
const badNonce = "urn:ietf:params:acme:error:badNonce";

/**
 * Registers the account when there is none for the key, has the domain name validated, and resolves to the chain, PEM.
 * @throws SpireError UNAVAILABLE with the service's reason; FAILED_PRECONDITION when its terms aren't accepted.
 */
export async function obtainCertificate(options: AcmeClientOptions, order: AcmeOrder): Promise<string> {
  const session = await openSession(options, order.signal);
  const created = await session.post(session.urls.newOrder, {
    identifiers: [{ type: "dns", value: order.domainName }],
  });
  const { authorizations, finalize } = orderOf(created.body);
  for (const url of authorizations) await authorize(session, url, order);
  const settled = (status: string) => status !== "pending" && status !== "processing";
  await session.poll(created.location, settled, ["ready", "valid"]);
  await session.post(finalize, { csr: base64url(order.csr) });
  const done = await session.poll(created.location, settled, ["valid"]);
  const { text } = await session.post(textOf(done.body, "certificate"), undefined);
  return text;
}

async function authorize(session: Session, url: string, { answer }: AcmeOrder): Promise<void> {
  const { body } = await session.post(url, undefined);
  if (textOf(body, "status") === "valid") return;
  const challenge = listOf(body, "challenges").find((one) => textOf(one, "type") === "tls-alpn-01");
  if (challenge === undefined) throw refused("it offers no validation by tls-alpn-01");
  await answer(`${textOf(challenge, "token")}.${session.thumbprint}`);
  try {
    await session.post(textOf(challenge, "url"), {});
    await session.poll(url, (status) => status !== "pending", ["valid"]);
  } finally {
    await answer(undefined);
  }
}

interface Session {
  readonly urls: { readonly newOrder: string };
  readonly thumbprint: string;
  /** Payload undefined = the thing is only read. */
  post(url: string, payload: object | undefined): Promise<Answer>;
  /** @throws SpireError UNAVAILABLE when it ends in none of the wanted states. */
  poll(url: string, isSettled: (status: string) => boolean, wanted: readonly string[]): Promise<Answer>;
}

async function openSession(options: AcmeClientOptions, signal: AbortSignal): Promise<Session> {
  const { directoryUrl, accountKey, email, tosAccepted, clock } = options;
  const get = (url: string, init: RequestInit = {}) => request(url, init, options, signal);
  const directory = readAnswer(await get(directoryUrl));
  const urls = {
    newNonce: textOf(directory.body, "newNonce"),
    newAccount: textOf(directory.body, "newAccount"),
    newOrder: textOf(directory.body, "newOrder"),
  };
  const terms = termsOf(directory.body);
  if (terms !== undefined && !tosAccepted) {
    const remedy = "read them, then set tos_accepted = true";
    throw new SpireError(
      "FAILED_PRECONDITION",
      `the ACME service's terms (${terms}) are not accepted: ${remedy}`,
    );
  }
  const jwk = publicJwk(accountKey);
  let account: string | undefined;
  let nonce: string | undefined;

  async function sign(url: string, payload: object | undefined): Promise<string> {
    nonce ??= (await get(urls.newNonce, { method: "HEAD" })).headers.get("replay-nonce") ?? undefined;
    if (nonce === undefined) throw refused("it gives no nonce");
    const header = { alg: "ES256", ...(account === undefined ? { jwk } : { kid: account }), nonce, url };
    nonce = undefined;
    const protectedPart = base64url(JSON.stringify(header));
    const payloadPart = payload === undefined ? "" : base64url(JSON.stringify(payload));
    const signature = await accountKey.sign(Buffer.from(`${protectedPart}.${payloadPart}`), "ieee-p1363");
    return JSON.stringify({
      protected: protectedPart,
      payload: payloadPart,
      signature: base64url(signature),
    });
  }

  async function post(url: string, payload: object | undefined): Promise<Answer> {
    for (let tries = 1; ; tries += 1) {
      const body = await sign(url, payload);
      const headers = { "Content-Type": "application/jose+json" };
      const response = await get(url, { method: "POST", headers, body });
      nonce = response.headers.get("replay-nonce") ?? undefined;
      try {
        return readAnswer(response);
      } catch (error) {
        const isStale = SpireError.from(error).message.includes(badNonce);
        if (!isStale || tries === mostNonces) throw error;
      }
    }
  }

  async function poll(
    url: string,
    isSettled: (status: string) => boolean,
    wanted: readonly string[],
  ): Promise<Answer> {
    for (let looks = 1; looks <= mostPolls; looks += 1) {
      const answer = await post(url, undefined);
      const status = textOf(answer.body, "status");
      if (wanted.includes(status)) return answer;
      if (isSettled(status)) throw refused(`"${url}" became ${status}${problemWithin(answer.body)}`);
      await sleep(clock, answer.retryAfterMs, signal);
      if (signal.aborted) throw new SpireError("CANCELLED", "the order was called off");
    }
    throw refused(`"${url}" did not come to an end`);
  }

  const contact = email === "" ? {} : { contact: [`mailto:${email}`] };
  const agreed = terms === undefined ? {} : { termsOfServiceAgreed: true };
  account = (await post(urls.newAccount, { ...agreed, ...contact })).location;
  return { urls, thumbprint: thumbprintOf(jwk), post, poll };
}

/** An answer with all of its text. */
interface Received {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** The service names the URLs, and whoever is on the way to one that is not encrypted could answer in its place. */
async function request(
  url: string,
  init: RequestInit,
  { webRoots, clock }: AcmeClientOptions,
  signal: AbortSignal,
): Promise<Received> {
  const about = `${init.method ?? "GET"} "${url}"`;
  if (URL.parse(url)?.protocol !== "https:") throw refused(`${about}: it is not an https URL`);
  const timer = new AbortController();
  const cancel = clock.after(requestMs, () => timer.abort());
  try {
    const response = await fetch(url, {
      ...init,
      redirect: "error",
      signal: AbortSignal.any([signal, timer.signal]),
      ...(webRoots && { tls: { ca: [...webRoots] } }),
    });
    const text = await readText(response.body ?? []);
    return { status: response.status, headers: response.headers, text };
  } catch (cause) {
    const reason = timer.signal.aborted ? "it did not answer in time" : SpireError.from(cause).message;
    throw refused(`${about}: ${reason}`);
  } finally {
    cancel();
  }
}

async function readText(body: AsyncIterable<Uint8Array> | readonly Uint8Array[]): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > longestAnswer) throw new SpireError("RESOURCE_EXHAUSTED", "its answer is too long");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function readAnswer({ status, headers, text }: Received): Answer {
  const isJson = /\bjson\b/.test(headers.get("content-type") ?? "");
  const body: unknown = isJson ? parseJson(text) : undefined;
  if (status < 200 || status > 299) throw refused(`HTTP status ${status}${describeProblem(body)}`);
  const seconds = Number(headers.get("retry-after") ?? Number.NaN);
  return {
    body,
    text,
    location: headers.get("location") ?? "",
    retryAfterMs: seconds > 0 ? Math.min(seconds * 1_000, longestPollMs) : pollMs,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw refused("its answer is not JSON");
  }
}

const refused = (reason: string): SpireError => new SpireError("UNAVAILABLE", `ACME service: ${reason}`);

/** RFC 8555, section 6.7. */
function describeProblem(problem: unknown): string {
  const type = fieldOf(problem, "type");
  const detail = fieldOf(problem, "detail");
  return typeof type === "string" || typeof detail === "string" ? `: ${detail ?? ""} (${type ?? ""})` : "";
}

/** Of the order or authorization itself, or of one of its challenges. */
function problemWithin(body: unknown): string {
  const challenges = fieldOf(body, "challenges");
  const holders = [body, ...(Array.isArray(challenges) ? challenges : [])];
  return holders.map((holder) => describeProblem(fieldOf(holder, "error"))).find((text) => text !== "") ?? "";
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;

function textOf(value: unknown, name: string): string {
  const field = fieldOf(value, name);
  if (typeof field === "string") return field;
  throw refused(`its answer has no "${name}"`);
}

function listOf(value: unknown, name: string): readonly unknown[] {
  const field = fieldOf(value, name);
  if (Array.isArray(field)) return field;
  throw refused(`its answer has no "${name}"`);
}

function orderOf(body: unknown) {
  const authorizations = listOf(body, "authorizations").filter((url) => typeof url === "string");
  return { authorizations, finalize: textOf(body, "finalize") };
}

function termsOf(directory: unknown): string | undefined {
  const terms = fieldOf(fieldOf(directory, "meta"), "termsOfService");
  return typeof terms === "string" ? terms : undefined;
}

interface PublicJwk {
  readonly crv: string;
  readonly kty: string;
  readonly x: string;
  readonly y: string;
}

function publicJwk({ publicKey }: LocalKey): PublicJwk {
  const { crv = "", kty = "", x = "", y = "" } = publicKey.export({ format: "jwk" });
  return { crv, kty, x, y };
}

/** RFC 7638: the fields are in the order that it wants. */
const thumbprintOf = (jwk: PublicJwk): string =>
  createHash("sha256").update(JSON.stringify(jwk)).digest("base64url");

const base64url = (data: string | Uint8Array): string => Buffer.from(data).toString("base64url");
