/** jose accepts every token that `spire dev` hands out, by the keys of the trust bundle. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import { run } from "../../scripts/run.ts";
import { binary, type Dev, sameUser, startDev } from "./dev.ts";

const workloads = ["spiffe://example.org/one", "spiffe://example.org/two"];

let dev: Dev;
let keys: ReturnType<typeof createLocalJWKSet>;

beforeAll(async () => {
  dev = await startDev(workloads.map((spiffe_id) => ({ spiffe_id, selectors: [sameUser] })));
  const shown = await server("bundle", "show", "-format", "spiffe");
  const bundle: JSONWebKeySet = JSON.parse(shown);
  const jwtKeys = bundle.keys.filter((key) => key.use === "jwt-svid");
  // "jwt-svid" is SPIFFE's own use; what JWS calls it is "sig".
  keys = createLocalJWKSet({ keys: jwtKeys.map((key) => ({ ...key, use: "sig" })) });
});

afterAll(async () => {
  await dev?.[Symbol.asyncDispose]();
});

const server = (...args: string[]) =>
  run([binary, "server", ...args, "-socketPath", dev.facts.server_socket]);

const agent = (...args: string[]) =>
  run([binary, "agent", ...args, "-socketPath", dev.facts.workload_api_socket]);

test("each JWT-SVID of the Workload API verifies", async () => {
  const printed = await agent("api", "fetch", "jwt", "-audience", "aud", "-output", "json");
  const [{ svids }]: [{ svids: { spiffe_id: string; svid: string }[] }] = JSON.parse(printed);
  expect(svids.map((svid) => svid.spiffe_id).sort()).toEqual(workloads);
  for (const { spiffe_id, svid } of svids) {
    const { payload, protectedHeader } = await jwtVerify(svid, keys, { audience: "aud", subject: spiffe_id });
    expect(protectedHeader).toMatchObject({ alg: "ES256", typ: "JWT" });
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(300);
  }
});

test("a minted JWT-SVID verifies", async () => {
  const subject = "spiffe://example.org/minted";
  const token = (
    await server("jwt", "mint", "-spiffeID", subject, "-audience", "one", "-audience", "two")
  ).trim();
  const { payload } = await jwtVerify(token, keys, { audience: "two", subject });
  expect(payload.aud).toEqual(["one", "two"]);
});
