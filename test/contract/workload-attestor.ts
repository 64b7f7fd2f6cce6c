/** What every workload attestor has to hold. */
import { describe, expect, test } from "bun:test";
import { SpireError } from "../../src/core/errors.ts";
import { formatSelector, validateSelector } from "../../src/core/selector.ts";
import type { WorkloadAttestor, WorkloadProcess } from "../../src/plugins/workload-attestors/index.ts";

export interface WorkloadAttestorUnderTest {
  readonly name: string;
  /** The attestor and a process that it knows something of. */
  create(): Promise<{ attestor: WorkloadAttestor; process: WorkloadProcess }>;
}

/** Larger than any PID that Linux gives out (2^22). */
const noSuchPid = 2 ** 30;

export function workloadAttestorContract({ name, create }: WorkloadAttestorUnderTest): void {
  const { signal } = new AbortController();
  describe(`workload attestor ${name} holds the contract`, () => {
    test("it has its name", async () => {
      expect((await create()).attestor.name).toBe(name);
    });

    test("selectors are valid, of its own type, and each one once", async () => {
      const { attestor, process } = await create();
      const selectors = await attestor.attest(process, signal);
      expect(selectors.length).toBeGreaterThan(0);
      for (const selector of selectors) expect(validateSelector(selector).type).toBe(name);
      expect(new Set(selectors.map(formatSelector)).size).toBe(selectors.length);
    });

    test("the same process gives the same selectors", async () => {
      const { attestor, process } = await create();
      const all = await Promise.all(Array.from({ length: 10 }, () => attestor.attest(process, signal)));
      for (const selectors of all) expect(selectors).toEqual(all[0] ?? []);
    });

    test("a process that is gone is an error, never a guess", async () => {
      const { attestor, process } = await create();
      const gone = attestor.attest({ ...process, pid: noSuchPid }, signal);
      await expect(gone).rejects.toBeInstanceOf(SpireError);
    });
  });
}
