import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zoneLetters } from "./time-zone.ts";

interface Zone {
  readonly types: readonly (readonly [offset: number, letters: string])[];
  /** When which type begins to hold. */
  readonly changes: readonly (readonly [unixSeconds: number, type: number])[];
}

/** A TZif file of version 2 (RFC 9636) with an empty first block. */
function zoneFile({ types, changes }: Zone): Buffer {
  const names = types.map(([, letters]) => `${letters}\0`);
  const header = (times: number, kinds: number, chars: number): Buffer => {
    const bytes = Buffer.alloc(44);
    bytes.write("TZif2");
    for (const [index, count] of [0, 0, 0, times, kinds, chars].entries())
      bytes.writeUInt32BE(count, 20 + 4 * index);
    return bytes;
  };
  const times = changes.map(([unixSeconds]) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(unixSeconds));
    return bytes;
  });
  const infos = types.map(([offset], index) => {
    const bytes = Buffer.alloc(6);
    bytes.writeInt32BE(offset);
    bytes.writeUInt8(names.slice(0, index).join("").length, 5);
    return bytes;
  });
  const chars = names.join("");
  return Buffer.concat([
    header(0, 0, 0),
    header(changes.length, types.length, chars.length),
    ...times,
    Buffer.from(changes.map(([, type]) => type)),
    ...infos,
    Buffer.from(chars),
  ]);
}

function inZone<T>(file: Buffer, work: () => T): T {
  const folder = mkdtempSync(join(tmpdir(), "zone-"));
  const before = process.env["TZ"];
  writeFileSync(join(folder, "Zone"), file);
  process.env["TZ"] = join(folder, "Zone");
  try {
    return work();
  } finally {
    if (before === undefined) delete process.env["TZ"];
    else process.env["TZ"] = before;
    rmSync(folder, { recursive: true });
  }
}

const zone = zoneFile({
  types: [
    [3600, "OLD"],
    [3600, "WIN"],
    [7200, "SUM"],
  ],
  changes: [
    [100, 0],
    [1_000, 2],
    [2_000, 1],
    [3_000, 2],
  ],
});

test("a zone is called what it was called at the time", () => {
  inZone(zone, () => {
    expect(zoneLetters(500, 3600)).toBe("OLD");
    expect(zoneLetters(1_500, 7200)).toBe("SUM");
    expect(zoneLetters(2_500, 3600)).toBe("WIN");
  });
});

test("behind the changes that a file knows, the offset tells", () => {
  inZone(zone, () => expect(zoneLetters(9_000, 3600)).toBe("WIN"));
});

test("a zone without changes has its one name", () => {
  inZone(zoneFile({ types: [[19_800, "IST"]], changes: [] }), () =>
    expect(zoneLetters(9_000, 19_800)).toBe("IST"),
  );
});

test("an offset that the file hasn't, and a file that is none, have no letters", () => {
  inZone(zone, () => expect(zoneLetters(500, 60)).toBeUndefined());
  inZone(Buffer.from("no zone"), () => expect(zoneLetters(500, 3600)).toBeUndefined());
});
