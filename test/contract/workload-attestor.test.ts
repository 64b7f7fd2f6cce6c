import { createUnixAttestor } from "../../src/plugins/workload-attestors/unix.ts";
import { workloadAttestorContract } from "./workload-attestor.ts";

const self = { pid: process.pid, uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };

workloadAttestorContract({
  name: "unix",
  async create() {
    return {
      attestor: createUnixAttestor({ discoverWorkloadPath: true, workloadSizeLimit: 0 }),
      process: self,
    };
  },
});
