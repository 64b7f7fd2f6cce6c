/** A server below an authority in files, and that authority replaced under an agent with a workload. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { authorityId, parseCertificate } from "../../src/core/x509/certificate.ts";
import {
  type CaFiles,
  createCaFiles,
  makeIntermediate,
  makeRoot,
  type TestCa,
} from "../upstream/ca-files.ts";
import { type Level, startLevel, svidWhen, type TestWorkload } from "../upstream/nested.ts";
import { failureOf } from "./failure.ts";
import { idMessage } from "./running.ts";

const longMs = 60_000;
const now = Math.floor(Date.now() / 1000);
const idOf = ({ der }: TestCa): string => authorityId(parseCertificate(der));

let files: CaFiles;
let root: TestCa;
let intermediate: TestCa;
let level: Level;
let workload: TestWorkload;
beforeAll(async () => {
  files = createCaFiles();
  root = await makeRoot(now);
  intermediate = await makeIntermediate(root, now);
  files.write({ chain: [intermediate], bundle: [root] });
  const { certFilePath, keyFilePath, bundleFilePath } = files;
  const upstreamAuthority = { type: "disk", certFilePath, keyFilePath, bundleFilePath } as const;
  level = await startLevel({ settings: { upstreamAuthority } });
  workload = await level.agentFor({ spiffeId: idMessage("/web") });
}, longMs);
afterAll(async () => {
  await level?.[Symbol.asyncDispose]();
  files?.[Symbol.dispose]();
}, longMs);

describe("an X.509 authority from files", () => {
  test("gives SVIDs with its whole chain but the root, and the root in the bundle", async () => {
    const { chain, roots, issuers } = await svidWhen(workload);
    expect(chain).toHaveLength(3);
    expect(issuers.slice(1)).toEqual([idOf(intermediate), idOf(root)]);
    expect(roots).toEqual([idOf(root)]);
    const { active } = await level.authorities.getX509AuthorityState({});
    expect(active?.upstreamAuthoritySubjectKeyId).toBe(idOf(intermediate));
  });

  test(
    "is replaced with its root, step by step, under a workload",
    async () => {
      const { authorities } = level;
      const next = await makeRoot(now);
      files.write({ chain: [next], bundle: [root, next] });
      const { preparedAuthority } = await authorities.prepareX509Authority({});
      expect(preparedAuthority?.upstreamAuthoritySubjectKeyId).toBe(idOf(next));
      await svidWhen(workload, ({ roots }) => roots.includes(idOf(next)));

      const subjectKeyId = idOf(root);
      const early = await failureOf(authorities.taintX509UpstreamAuthority({ subjectKeyId }));
      expect(early.code).toBe("INVALID_ARGUMENT");

      await authorities.activateX509Authority({ authorityId: preparedAuthority?.authorityId ?? "" });
      expect(await authorities.taintX509UpstreamAuthority({ subjectKeyId })).toEqual({
        upstreamAuthoritySubjectKeyId: subjectKeyId,
      });
      const moved = await svidWhen(workload, ({ issuers }) => issuers.at(-1) === idOf(next));
      expect(moved.chain).toHaveLength(2);

      await authorities.revokeX509UpstreamAuthority({ subjectKeyId });
      const { roots } = await svidWhen(workload, (svid) => !svid.roots.includes(subjectKeyId));
      expect(roots).toEqual([idOf(next)]);
    },
    longMs,
  );
});
