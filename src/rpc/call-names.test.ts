import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { callNames, callWords } from "./call-names.ts";
import { methodRules } from "./server-methods.ts";

test("every recorded metric of a method has the name that its method gets here", () => {
  const recorded: { name: string }[] = JSON.parse(
    readFileSync(join(import.meta.dir, "../../test/golden/metrics/server.json"), "utf8"),
  );
  const prefix = "spire_server_rpc_";
  const expected = recorded
    .map(({ name }) => name)
    .filter((name) => name.startsWith(prefix) && !name.endsWith("_elapsed_time"))
    .map((name) => name.slice(prefix.length));
  const ours = [...methodRules.keys()].map((method) => callWords(method).join("_"));
  expect(expected.filter((name) => !ours.includes(name))).toEqual([]);
});

test("logs name services as SPIRE does", () => {
  expect(callNames("/spire.api.server.agent.v1.Agent/AttestAgent")).toEqual({
    service: "agent.v1.Agent",
    method: "AttestAgent",
  });
  expect(callNames("/grpc.health.v1.Health/Check").service).toBe("Health");
  expect(callNames("/spire.api.server.logger.v1.Logger/GetLogger").service).toBe("Logger");
  expect(callWords("/SpiffeWorkloadAPI/FetchX509SVID")).toEqual(["workload_api", "fetch_x509svid"]);
});
