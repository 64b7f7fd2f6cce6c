/** Our server below our server, three levels of them: agents and workloads on each, and the root replaced above them. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseCertificate } from "../../src/core/x509/certificate.ts";
import { formatSubject } from "../../src/core/x509/name.ts";
import {
  below,
  type Level,
  startLevel,
  svidWhen,
  type TestWorkload,
  trustEachOther,
  untilTokenHolds,
} from "../upstream/nested.ts";
import { failureOf } from "./failure.ts";
import { idMessage } from "./running.ts";

const longMs = 60_000;

const downstream = { spiffeId: idMessage("/nested"), downstream: true };

let root: Level;
let middle: Level;
let bottom: Level;
let atRoot: TestWorkload;
let atMiddle: TestWorkload;
let atBottom: TestWorkload;
beforeAll(async () => {
  root = await startLevel();
  middle = await startLevel({ settings: below(root, await root.agentFor(downstream)) });
  bottom = await startLevel({ settings: below(middle, await middle.agentFor(downstream)) });
  [atRoot, atMiddle, atBottom] = (await Promise.all(
    [root, middle, bottom].map((level, depth) =>
      level.agentFor({ spiffeId: idMessage(`/workload-${depth}`) }),
    ),
  )) as [TestWorkload, TestWorkload, TestWorkload];
}, longMs);
afterAll(async () => {
  for (const level of [bottom, middle, root]) await level?.[Symbol.asyncDispose]();
}, longMs);

const idOf = (state: { readonly authorityId: string } | undefined) => state?.authorityId ?? "";
const activeOf = async (level: Level) => (await level.authorities.getX509AuthorityState({})).active;

describe("workloads below different servers", () => {
  test("have chains as long as their level is deep, without the root, and one root", async () => {
    const svids = await Promise.all([atRoot, atMiddle, atBottom].map((workload) => svidWhen(workload)));
    expect(svids.map(({ chain }) => chain.length)).toEqual([1, 2, 3]);
    const rootId = idOf(await activeOf(root));
    for (const { roots } of svids) expect(roots).toEqual([rootId]);
    expect(svids.map(({ issuers }) => issuers.at(-1))).toEqual([rootId, rootId, rootId]);
  });

  test("accept each other's X.509-SVIDs", async () => {
    const [a, b, c] = await Promise.all([svidWhen(atRoot), svidWhen(atMiddle), svidWhen(atBottom)]);
    trustEachOther(a, b);
    trustEachOther(b, c);
    trustEachOther(a, c);
  });

  test(
    "accept each other's JWT-SVIDs",
    async () => {
      for (const from of [atRoot, atMiddle, atBottom]) {
        for (const at of [atRoot, atMiddle, atBottom]) await untilTokenHolds(from, at);
      }
    },
    longMs,
  );

  test("are told apart by the names of their CAs", async () => {
    const { chain } = await svidWhen(atBottom);
    const names = chain.slice(1).map((der) => formatSubject(parseCertificate(der).subjectDer));
    expect(names).toEqual([
      expect.stringMatching(/OU=DOWNSTREAM-2,O=SPIFFE,C=US$/),
      expect.stringMatching(/OU=DOWNSTREAM-1,O=SPIFFE,C=US$/),
    ]);
  });
});

test("each server names the authority above it", async () => {
  const states = await Promise.all([root, middle, bottom].map(activeOf));
  expect(states.map((state) => state?.upstreamAuthoritySubjectKeyId)).toEqual([
    "",
    idOf(states[0]),
    idOf(states[1]),
  ]);
});

test("a nested server leaves tainting and revoking to the one above", async () => {
  const authorityId = idOf(await activeOf(middle));
  const taint = await failureOf(middle.authorities.taintX509Authority({ authorityId }));
  expect(`${taint.code}: ${taint.message}`).toBe(
    "FAILED_PRECONDITION: local authority can't be tainted if there is an upstream authority",
  );
  const revoke = await failureOf(middle.authorities.revokeX509Authority({ authorityId }));
  expect(`${revoke.code}: ${revoke.message}`).toBe(
    "FAILED_PRECONDITION: local authority can't be revoked if there is an upstream authority",
  );
});

test("a server whose SVID has no downstream entry is told what it needs", async () => {
  const plain = await root.agentFor({ spiffeId: idMessage("/plain") });
  const failure = await failureOf(startLevel({ settings: below(root, plain) }));
  expect(failure.code).toBe("PERMISSION_DENIED");
  expect(failure.message).toContain('upstream authority "spire"');
  expect(failure.message).toContain(
    '"spiffe://example.org/plain" needs a registration entry with "downstream"',
  );
});

test(
  "a nested server that is started again goes on with its CA",
  async () => {
    const before = idOf(await activeOf(middle));
    await middle.restart();
    expect(idOf(await activeOf(middle))).toBe(before);
    trustEachOther(await svidWhen(atRoot), await svidWhen(atMiddle));
  },
  longMs,
);

test(
  "a nested server starts again and serves while the one above can't be asked",
  async () => {
    const guide = await root.agentFor(downstream);
    await using alone = await startLevel({ settings: below(root, guide) });
    const before = idOf(await activeOf(alone));
    await guide[Symbol.asyncDispose]();
    await alone.restart();
    expect(idOf(await activeOf(alone))).toBe(before);
    trustEachOther(
      await svidWhen(await alone.agentFor({ spiffeId: idMessage("/web") })),
      await svidWhen(atRoot),
    );
    const failure = await failureOf(alone.authorities.prepareX509Authority({}));
    expect(failure.code).toBe("INTERNAL");
    expect(failure.message).toStartWith('failed to prepare X.509 authority: upstream authority "spire": ');
    expect(failure.message).toContain("no X.509-SVID from the Workload API");
    expect(idOf(await activeOf(alone))).toBe(before);
  },
  longMs,
);

test(
  "a root that is replaced takes all levels along, workloads included",
  async () => {
    const old = idOf(await activeOf(root));
    const next = idOf((await root.authorities.prepareX509Authority({})).preparedAuthority);
    const everywhere = [atRoot, atMiddle, atBottom];
    await Promise.all(everywhere.map((workload) => svidWhen(workload, ({ roots }) => roots.includes(next))));
    await root.authorities.activateX509Authority({ authorityId: next });
    await root.authorities.taintX509Authority({ authorityId: old });
    const moved = await Promise.all(
      everywhere.map((workload) => svidWhen(workload, ({ issuers }) => issuers.at(-1) === next)),
    );
    expect(moved.map(({ chain }) => chain.length)).toEqual([1, 2, 3]);
    await root.authorities.revokeX509Authority({ authorityId: old });
    const after = await Promise.all(
      everywhere.map((workload) => svidWhen(workload, ({ roots }) => !roots.includes(old))),
    );
    const [a, b, c] = after;
    if (!a || !b || !c) throw new Error("a workload is missing");
    for (const { roots, issuers } of after) {
      expect(roots).toEqual([next]);
      expect(issuers.at(-1)).toBe(next);
    }
    trustEachOther(a, c);
    trustEachOther(b, c);
  },
  longMs,
);
