import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type AuthorityFixture,
  createAuthorityFixture,
  startSeconds,
} from "../../../test/server/authority-fixture.ts";
import { nullLogger } from "../../core/log.ts";
import { type ActivityBook, createActivityBook } from "../agent-activity.ts";
import { begin, type Operation } from "./operation.ts";
import { createSvidLedger, type SvidLedger } from "./svid-ledger.ts";
import { createWaitingList, nobody, type WaitingList } from "./waiting.ts";

const operation: Operation = {
  ...begin(
    { kinds: ["x509", "jwt"], emergency: false, ignoreMinted: true, ignoreDownstream: true },
    "id",
    startSeconds,
  ),
  replacements: [{ kind: "x509", next: "n", old: ["o"], tainted: [] }],
};

let fixture: AuthorityFixture;
let activity: ActivityBook;
let ledger: SvidLedger;
let hasRelays: boolean;
let list: WaitingList;
beforeEach(async () => {
  fixture = await createAuthorityFixture();
  const { registry, clock } = fixture;
  activity = await createActivityBook({ registry, clock, log: nullLogger });
  ledger = await createSvidLedger({ registry, clock, log: nullLogger });
  hasRelays = true;
  const options = { registry, activity, ledger, clock, hasRelays: () => hasRelays };
  list = createWaitingList({ ...options, ownAuthority: () => "n" });
});
afterEach(async () => {
  await Promise.all([activity.close(), ledger.close()]);
  await fixture.close();
});

describe("servers that pass the bundle on", () => {
  test("get time for it, as nobody here knows what their agents have", () => {
    const until = startSeconds + 30;
    expect(list.lackingBundle(operation)).toEqual({
      agents: [],
      others: [
        { kind: "x509", holders: "relays", until },
        { kind: "jwt", holders: "relays", until },
      ],
    });
    fixture.clock.jump(30_000);
    expect(list.lackingBundle(operation)).toEqual(nobody);
  });

  test("aren't waited for where there are none", () => {
    hasRelays = false;
    expect(list.lackingBundle(operation)).toEqual(nobody);
  });

  test("get time to replace a tainted CA, also when its end isn't waited for", async () => {
    const moved = new Set<never>();
    expect(list.notMoved(operation, moved, () => {})).toEqual(nobody);
    await ledger.signed("o", "downstream", startSeconds + 3_600);
    const until = startSeconds + 60;
    expect(list.notMoved(operation, moved, () => {}).others).toEqual([
      { kind: "x509", holders: "relays", until },
    ]);
    fixture.clock.jump(60_000);
    expect(list.notMoved(operation, moved, () => {})).toEqual(nobody);
    const patient = { ...operation, ignoreDownstream: false };
    expect(list.notMoved(patient, moved, () => {}).others).toEqual([
      { kind: "x509", holders: "downstream", until: startSeconds + 3_600 },
    ]);
  });
});
