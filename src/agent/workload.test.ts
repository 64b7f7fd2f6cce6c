import { describe, expect, test } from "bun:test";
import { SpireError } from "../core/errors.ts";
import { nullLogger } from "../core/log.ts";
import type { Selector } from "../core/selector.ts";
import type { WorkloadAttestor } from "../plugins/workload-attestors/index.ts";
import { createWorkloadAttestation } from "./workload.ts";

const { signal } = new AbortController();
const caller = { pid: 7, uid: 1, gid: 1, isAlive: () => true };

const finding = (name: string, ...values: string[]): WorkloadAttestor => ({
  name,
  attest: async () => values.map((value): Selector => ({ type: name, value })),
});

const failing = (name: string): WorkloadAttestor => ({
  name,
  attest: async () => {
    throw new SpireError("UNAVAILABLE", `${name} is down`);
  },
});

const attestWith = (...attestors: WorkloadAttestor[]) =>
  createWorkloadAttestation(attestors, nullLogger).attest(caller, signal);

const failed = { code: "UNAVAILABLE", message: "workload attestation failed" };

describe("attestation of a workload", () => {
  test("joins what all attestors find", async () => {
    expect(await attestWith(finding("unix", "uid:1"), finding("docker", "label:a:b"))).toEqual([
      { type: "unix", value: "uid:1" },
      { type: "docker", value: "label:a:b" },
    ]);
  });

  test("goes on without an attestor that fails, and logs it", async () => {
    const logged: unknown[] = [];
    const log = { ...nullLogger, error: (message: string) => logged.push(message) };
    const attestation = createWorkloadAttestation([failing("docker"), finding("unix", "uid:1")], log);
    expect(await attestation.attest(caller, signal)).toEqual([{ type: "unix", value: "uid:1" }]);
    expect(logged).toEqual(['workload attestor "docker" failed']);
  });

  test("fails when all attestors fail", async () => {
    await expect(attestWith(failing("docker"), failing("unix"))).rejects.toMatchObject(failed);
  });

  test("finding nothing is no failure", async () => {
    expect(await attestWith(failing("docker"), finding("unix"))).toEqual([]);
  });

  test("fails for a process that was gone before", async () => {
    const attestation = createWorkloadAttestation([finding("unix", "uid:1")], nullLogger);
    const gone = attestation.attest({ ...caller, isAlive: () => false }, signal);
    await expect(gone).rejects.toMatchObject(failed);
  });

  test("doesn't believe what it found when the process went away meanwhile: its PID may be another's", async () => {
    let alive = true;
    const slow: WorkloadAttestor = {
      name: "unix",
      attest: async () => {
        alive = false;
        return [{ type: "unix", value: "uid:0" }];
      },
    };
    const attestation = createWorkloadAttestation([slow], nullLogger);
    const gone = attestation.attest({ ...caller, isAlive: () => alive }, signal);
    await expect(gone).rejects.toMatchObject(failed);
  });
});
