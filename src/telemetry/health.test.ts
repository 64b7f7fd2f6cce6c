import { afterEach, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import golden from "../../test/golden/metrics/health-endpoints.json";
import { createManualClock, type ManualClock } from "../core/clock.ts";
import { nullLogger } from "../core/log.ts";
import { createRecordingLogger } from "../rpc/testing.ts";
import { type HealthChecks, type HealthListener, listenHealth, type PartHealth } from "./health.ts";

let listener: HealthListener | undefined;
afterEach(() => listener?.close());

const well: PartHealth = { live: true, ready: true };

async function listen(checks: HealthChecks, options: { clock?: ManualClock; livePath?: string } = {}) {
  const clock = options.clock ?? createManualClock(0);
  const paths = { livePath: options.livePath ?? "/live", readyPath: "/ready" };
  const where = { host: "localhost", port: 0, ...paths };
  listener = await listenHealth({ ...where, checks, clock, log: nullLogger });
  return (path: string, method = "GET") => fetch(`http://${listener?.address}${path}`, { method });
}

const status = async (answer: Promise<Response>) => (await answer).status;

describe("answers are SPIRE's", () => {
  const checks = {
    server: async () => well,
    "server.ca.rotator": async () => well,
    "server.ca": async () => well,
    "catalog.datastore": async () => well,
  };
  const recorded = Object.entries(golden).filter(([name]) => name.startsWith("server "));
  test.each(recorded)("%s", async (name, text) => {
    const ask = await listen(checks);
    const answer = await ask(name.replace("server GET ", ""));
    const [head = "", body] = text.split("\n\n");
    expect(head).toStartWith(`HTTP/1.1 ${answer.status} `);
    expect(await answer.text()).toBe(body ?? "");
    for (const line of head.split(/\r?\n/).slice(1)) {
      const [header = "", value = ""] = line.split(": ");
      if (header !== "Date") expect(answer.headers.get(header)).toBe(value);
    }
  });
});

test("a part that isn't ready makes the program not ready, and it stays alive", async () => {
  const ask = await listen({
    server: async () => ({ live: true, ready: false, details: { get_bundle_err: "not yet" } }),
    "server.ca": async () => well,
  });
  const ready = await ask("/ready");
  expect(ready.status).toBe(500);
  expect(await ready.text()).toBe('{"server":{"get_bundle_err":"not yet"},"server.ca":{}}\n');
  expect(await status(ask("/live"))).toBe(200);
});

test("a check that throws is one that failed", async () => {
  const ask = await listen({
    server: async () => {
      throw new Error("no disk");
    },
  });
  const live = await ask("/live");
  expect([live.status, await live.json()]).toEqual([500, { server: { err: "no disk" } }]);
});

test("parts are asked at most once a second, and their changes are logged once", async () => {
  const clock = createManualClock(0);
  const log = createRecordingLogger();
  let asked = 0;
  let state = well;
  const check = async () => {
    asked += 1;
    return state;
  };
  const where = { host: "127.0.0.1", port: 0, livePath: "/live", readyPath: "/ready" };
  listener = await listenHealth({ ...where, checks: { server: check }, clock, log });
  const ask = () => status(fetch(`http://${listener?.address}/ready`));
  expect(await Promise.all([ask(), ask(), ask()])).toEqual([200, 200, 200]);
  expect(asked).toBe(1);
  state = { live: false, ready: false };
  expect(await ask()).toBe(200);
  await clock.advance(1_000);
  expect([await ask(), await ask()]).toEqual([500, 500]);
  await clock.advance(1_000);
  expect(await ask()).toBe(500);
  state = well;
  await clock.advance(1_000);
  expect(await ask()).toBe(200);
  expect(asked).toBe(4);
  expect(log.lines.map(({ message }) => message)).toEqual([
    "Serving health checks",
    "Health check failed",
    "Health check recovered",
  ]);
});

test("paths are the operator's, and nothing in them is a pattern", async () => {
  const ask = await listen({ server: async () => well }, { livePath: "/:name/*" });
  expect(await status(ask("/:name/*"))).toBe(200);
  expect(await status(ask("/a/b"))).toBe(404);
  expect(await status(ask("/live"))).toBe(404);
});

test("a port in use is an error that names the option", async () => {
  await listen({ server: async () => well });
  const port = Number(listener?.address.split(":")[1]);
  const where = { host: "127.0.0.1", port, livePath: "/live", readyPath: "/ready" };
  const again = listenHealth({ ...where, checks: {}, clock: createManualClock(0), log: nullLogger });
  const error = await again.catch((caught: unknown) => caught);
  expect(String(error)).toContain(`could not listen at 127.0.0.1:${port} (health_checks.bind_port)`);
});

test("what is no path, and other methods, get an answer as well", async () => {
  await listen({ server: async () => well });
  const [host, port] = listener?.address.split(":") ?? [];
  for (const [line, code] of [
    ["GET http://elsewhere/ready HTTP/1.1", "200"],
    ["GET /ready?verbose HTTP/1.1", "200"],
    ["HEAD /ready HTTP/1.1", "200"],
    ["GET //ready HTTP/1.1", "404"],
    ["POST /ready HTTP/1.1", "404"],
    ["OPTIONS * HTTP/1.1", "404"],
  ]) {
    const socket = connect(Number(port), host);
    socket.write(`${line}\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const head = await new Promise((resolve) => socket.once("data", (bytes) => resolve(bytes.toString())));
    expect([line, String(head).slice(9, 12)]).toEqual([line, code]);
    socket.destroy();
  }
});
