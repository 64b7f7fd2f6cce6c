import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  caTtl,
  createAuthorityFixture,
  trustDomain,
  until,
} from "../../../test/server/authority-fixture.ts";
import { failureOf } from "../../../test/server/failure.ts";
import { unixSeconds } from "../../core/clock.ts";
import { nullLogger } from "../../core/log.ts";
import { emptyBundle } from "../../core/trust-bundle.ts";
import type { Authority } from "../authority.ts";
import { authorityIds, editAuthorities, taintedIds } from "../authority-bundle.ts";
import type { AuthorityStatus } from "../journal.ts";
import { startRotation } from "../rotation.ts";
import { advance, begin, type Operation, type Outcome } from "./operation.ts";
import { createRotationSteps, type RotationSteps } from "./steps.ts";

let fixture: AuthorityFixture;
let authority: Authority;
let steps: RotationSteps;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  await reopen();
});
afterEach(() => fixture.close());

/** As after a restart. */
async function reopen(): Promise<void> {
  authority = await fixture.open();
  await authority.recover();
  steps = stepsOf(authority);
}

const stepsOf = (keeper: Authority): RotationSteps =>
  createRotationSteps({
    keeper,
    registry: fixture.registry,
    ledger: { quiesce: async () => {} },
    now: () => unixSeconds(fixture.clock),
  });

const id = (status: AuthorityStatus, kind: "x509" | "jwt" = "x509") =>
  authority.state(kind, status)?.authorityId ?? "";
const bundle = () => fixture.registry.bundles.get(trustDomain) ?? emptyBundle(trustDomain);
const roots = () => [...authorityIds(bundle(), "x509")];
const tainted = () => [...taintedIds(bundle(), "x509")];
const never = () => false;

const request = {
  kinds: ["x509", "jwt"],
  emergency: false,
  ignoreMinted: false,
  ignoreDownstream: false,
} as const;
const after = (outcome: Outcome): Operation => advance(begin(request, "id", 0), 0, outcome);

describe("preparing", () => {
  test("names what takes the place of what, and the bundle that agents have to have", async () => {
    const [x509, jwt] = [id("active"), id("active", "jwt")];
    const { replacements, bundleSequence } = await steps.prepare(["x509", "jwt"]);
    expect(replacements).toEqual([
      { kind: "x509", next: id("prepared"), old: [x509], tainted: [] },
      { kind: "jwt", next: id("prepared", "jwt"), old: [jwt], tainted: [] },
    ]);
    expect(bundleSequence).toBe(bundle().sequenceNumber);
    expect(roots()).toEqual([x509, id("prepared")]);
  });

  test("takes earlier authorities along that have signed, and removes those that never did", async () => {
    const first = id("active");
    await authority.prepare(["x509"]);
    await authority.activate(["x509"]);
    const second = id("active");
    await authority.prepare(["x509"]);
    const unused = id("prepared");
    expect(roots()).toContain(unused);
    const { replacements } = await steps.prepare(["x509"]);
    expect(replacements).toMatchObject([{ old: [second, first], next: id("prepared") }]);
    expect(roots()).toEqual([first, second, id("prepared")]);
    // Taken again after a crash, it leaves nothing behind either.
    const again = await steps.prepare(["x509"]);
    expect(again.replacements).toMatchObject([{ old: [second, first], next: id("prepared") }]);
    expect(roots()).toEqual([first, second, id("prepared")]);
  });

  test("is refused for an authority that an upstream authority signed, and for one that nobody trusts", async () => {
    const signed = { ...authority, state: () => ({ ...upstreamed }) };
    const active = authority.state("x509", "active");
    if (!active) throw new Error("no authority");
    const upstreamed = { ...active, upstreamChain: [active.der] };
    expect(() => stepsOf(signed).requireReplaceable(["x509"])).toThrow("upstreamauthority taint");
    const { registry } = fixture;
    await registry.mutateBundle(trustDomain, () => ({ ...bundle(), x509Authorities: [] }));
    expect(() => steps.requireReplaceable(["x509"])).toThrow("is not in the trust bundle");
    expect(() => steps.requireReplaceable(["wit"])).toThrow("no authority of kind wit");
  });
});

describe("activating, tainting and revoking", () => {
  test("can each be taken again", async () => {
    const old = id("active");
    const operation = after(await steps.prepare(["x509", "jwt"]));
    const next = id("prepared");
    expect(await steps.activate(operation, () => true)).toBe("refused");
    expect(id("active")).toBe(old);
    expect(await steps.activate(operation, never)).toBe("activated");
    expect(await steps.activate(operation, () => true)).toBe("activated");
    expect(id("active")).toBe(next);
    const first = await steps.taint(operation);
    expect([tainted(), await steps.taint(operation)]).toEqual([[old], first]);
    await steps.revoke(operation);
    const { sequenceNumber } = bundle();
    await steps.revoke(operation);
    expect([roots(), bundle().sequenceNumber]).toEqual([[next], sequenceNumber]);
    expect([...authorityIds(bundle(), "jwt")]).toEqual([id("active", "jwt")]);
  });

  test("goes on after a restart, and with what the clock has activated", async () => {
    const operation = after(await steps.prepare(["x509", "jwt"]));
    await authority.activate(["jwt"]);
    await reopen();
    expect(await steps.activate(operation, never)).toBe("activated");
    expect([id("active"), id("active", "jwt")]).toEqual(operation.replacements.map(({ next }) => next));
  });

  test("is refused when the new authority is gone", async () => {
    const operation = after(await steps.prepare(["x509"]));
    await authority.prepare(["x509"]);
    const failure = await failureOf(steps.activate(operation, never));
    expect([failure.code, failure.message]).toEqual([
      "FAILED_PRECONDITION",
      `the new x509 authority ${operation.replacements[0]?.next} is gone; undo the rotation`,
    ]);
  });
});

describe("undoing", () => {
  test("leaves no trace of an authority that never signed, whenever it is undone", async () => {
    const old = id("active");
    await steps.prepare(["x509", "jwt"]);
    // A crash before what was prepared was noted.
    await steps.undo(begin(request, "id", 0));
    expect([roots(), id("active"), id("prepared")]).toEqual([[old], old, ""]);
    await reopen();
    expect([roots(), id("active"), id("prepared")]).toEqual([[old], old, ""]);
  });

  test("brings the old one back, again and after a restart, and keeps what the new one signed", async () => {
    const old = id("active");
    const operation = after(await steps.prepare(["x509", "jwt"]));
    await steps.activate(operation, never);
    const next = id("active");
    await steps.taint(operation);
    for (const _ of [1, 2]) {
      await steps.undo(operation);
      expect([id("active"), id("old"), roots(), tainted()]).toEqual([old, next, [old, next], []]);
    }
    await reopen();
    expect([id("active"), id("old"), roots()]).toEqual([old, next, [old, next]]);
  });

  test("lifts no taint of before", async () => {
    const first = id("active");
    await authority.prepare(["x509"]);
    await authority.activate(["x509"]);
    const { registry } = fixture;
    await registry.mutateBundle(trustDomain, () =>
      editAuthorities(bundle(), "x509", new Set([first]), "taint"),
    );
    const operation = after(await steps.prepare(["x509"]));
    await steps.activate(operation, never);
    await steps.taint(operation);
    expect(tainted()).toHaveLength(2);
    await steps.undo(operation);
    expect(tainted()).toEqual([first]);
  });

  test("is refused when the old key was replaced, or its time is over", async () => {
    const operation = after(await steps.prepare(["x509", "jwt"]));
    await steps.activate(operation, never);
    fixture.clock.jump((caTtl + 1) * 1000);
    expect(() => steps.requireUndoable(operation)).toThrow("has expired");
    fixture.clock.jump(-caTtl * 1000);
    steps.requireUndoable(operation);
    await authority.prepare(["x509"]);
    expect(() => steps.requireUndoable(operation)).toThrow("is not at hand any more");
    expect((await failureOf(steps.undo(operation))).code).toBe("FAILED_PRECONDITION");
  });
});

test("the clock leaves authorities alone that are being replaced, but not until they end", async () => {
  const { clock } = fixture;
  const rotation = startRotation({ authority, isHeld: (kind) => kind === "x509", clock, log: nullLogger });
  clock.jump((caTtl / 2 + 60) * 1000);
  await clock.advance(20_000);
  // X.509 comes first, so by then it was looked at.
  await until(() => id("prepared", "jwt") !== "");
  expect(id("prepared")).toBe("");
  clock.jump((caTtl / 6) * 1000);
  await clock.advance(20_000);
  await until(() => id("prepared") !== "");
  expect(id("active")).not.toBe(id("prepared"));
  await rotation.stop();
});
