/** An agent in a PID namespace of its own: who calls from outside of it can't be seen, and so is nobody. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { program } from "../dev/program.ts";
import { failureOf } from "../server/failure.ts";
import { createWorld, openStream, type World } from "./world.ts";

let world: World;
beforeEach(() => {
  world = createWorld();
});
afterEach(() => world.close());

const namespaces = ["--user", "--map-root-user", "--mount", "--pid"];

test("a process that the agent can't see is refused, and those that it sees are served", async () => {
  const { running, ready } = await world.dev(["--entry", "/web=unix:uid:0"], {
    wrap: ["unshare", ...namespaces, "--fork", "--kill-child", "--mount-proc"],
  });
  expect(ready.pid).toBe(1);
  const [inside = ""] = readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, "utf8").split(" ");
  const fetch = async () => {
    const enter = ["nsenter", "--user", "--mount", "--pid", "--preserve-credentials", `--target=${inside}`];
    const client = [...program, "agent", "api", "fetch", "x509", "-socketPath", ready.workload_api_socket];
    const { ended, out } = world.run([...enter, ...client]);
    return { code: await ended, out: await out.all() };
  };
  const served = { code: 0, out: expect.stringContaining("SPIFFE ID:\t\tspiffe://example.org/web\n") };
  expect(await fetch()).toEqual(served);

  for (let time = 0; time < 3; time++) {
    const failure = await failureOf(openStream(world.dial(ready.workload_api_socket)).next());
    expect(failure.code).toBe("UNAVAILABLE");
    const line = await running.err.next((text) => text.includes("Connection refused"));
    expect(line).toContain("the calling process is in a PID namespace not visible here");
  }
  expect(await fetch()).toEqual(served);
});
