/** An ACME service that means harm, or that somebody stands in for. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { type Clock, createManualClock, systemClock } from "../../src/core/clock.ts";
import { SpireError } from "../../src/core/errors.ts";
import { generateKey, type LocalKey } from "../../src/core/keys.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { pemOf } from "../../src/rpc/tls.ts";
import { obtainCertificate } from "../../src/server/federation/acme/client.ts";
import { createDomain, type TestDomain } from "../server/endpoints.ts";

let domain: TestDomain;
let accountKey: LocalKey;
beforeAll(async () => {
  domain = await createDomain(parseTrustDomain("example.org"));
  accountKey = await generateKey("ec-p256");
});

let service: ReturnType<typeof Bun.serve> | undefined;
afterEach(() => service?.stop(true));
afterAll(() => service?.stop(true));

/** The URL of a directory that is answered so. */
async function serve(answer: (request: Request) => Response): Promise<string> {
  const tls = pemOf(await domain.identity("/acme", ["localhost"]));
  service = Bun.serve({ hostname: "localhost", port: 0, tls, fetch: answer });
  return `https://localhost:${service.port}/dir`;
}

/** Why there is no certificate. */
async function failureOf(directoryUrl: string, clock: Clock = systemClock): Promise<string> {
  const order = {
    domainName: "bundles.example.org",
    csr: new Uint8Array(),
    answer: async () => {},
    signal: new AbortController().signal,
  };
  const options = { directoryUrl, accountKey, email: "", tosAccepted: true, webRoots: [domain.root], clock };
  try {
    await obtainCertificate(options, order);
    return "a certificate";
  } catch (error) {
    return SpireError.from(error).message;
  }
}

const json = (content: object): Response => Response.json(content);

test("an answer without end is given up", async () => {
  const directory = await serve(() => new Response("x".repeat(2 * 1024 * 1024)));
  expect(await failureOf(directory)).toEndWith("its answer is too long");
});

test("so is one that stops halfway", async () => {
  const clock = createManualClock(Date.now());
  const directory = await serve(
    () => new Response(new ReadableStream({ start: (stream) => stream.enqueue(Buffer.from("{")) })),
  );
  const failing = failureOf(directory, clock);
  let isOver = false;
  void failing.then(() => {
    isOver = true;
  });
  while (!isOver) await clock.advance(1_000);
  expect(await failing).toEndWith("it did not answer in time");
});

test.each(["http://127.0.0.1:1/nonce", "file:///etc/passwd", "nonsense"])(
  "a URL that is not encrypted is not asked: %s",
  async (url) => {
    const directory = await serve(() => json({ newNonce: url, newAccount: url, newOrder: url }));
    expect(await failureOf(directory)).toBe(`ACME service: HEAD "${url}": it is not an https URL`);
  },
);

test("nobody is followed elsewhere", async () => {
  const asked: string[] = [];
  const directory = await serve(({ url }) => {
    asked.push(new URL(url).pathname);
    return new Response(null, { status: 302, headers: { Location: "/elsewhere" } });
  });
  expect(await failureOf(directory)).toStartWith(`ACME service: GET "${directory}": `);
  expect(asked).toEqual(["/dir"]);
});

test("what is no directory is refused", async () => {
  expect(await failureOf(await serve(() => json([])))).toBe('ACME service: its answer has no "newNonce"');
});
