/**
 * Damage in a database's log. SQLite ends its reading of a log at the first frame that doesn't hold, as a crash may
 * have cut the last commit short; what comes after a flipped byte would be lost without a word.
 * (SQLite, "WAL-mode File Format".)
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { SpireError } from "../../../core/errors.ts";
import { restoreAdvice } from "./damage.ts";

const headerBytes = 32;
const frameHeaderBytes = 24;
/** The first word of a log whose checksums take words with the low byte first; one more, with the high byte first. */
const magicLittleEndian = 0x377f0682;

/**
 * A log that another process writes to meanwhile passes: what is read of it is not of one moment.
 * @throws SpireError DATA_LOSS when commits that were on disk lie behind one that doesn't hold.
 */
export function requireWholeLog(path: string): void {
  const logPath = `${path}-wal`;
  if (!existsSync(logPath)) return;
  const file = openSync(logPath, "r");
  const state = () => {
    const { size, mtimeNs } = fstatSync(file, { bigint: true });
    return `${size} ${mtimeNs}`;
  };
  try {
    const before = state();
    const commits = countLostCommits((buffer, position) =>
      readSync(file, buffer, 0, buffer.length, position),
    );
    // The last commit may be cut short. The one before it was on disk when that was begun.
    if (commits < 2 || state() !== before) return;
    const what = `${commits} commits of its log ${logPath} can't be read for a damaged one`;
    throw new SpireError("DATA_LOSS", `datastore ${path}: ${what}; ${restoreAdvice}`);
  } finally {
    closeSync(file);
  }
}

/** Fills the buffer from a position on. @returns how many bytes there were. */
type Read = (buffer: Buffer, position: number) => number;

/** Commits of this log behind the first frame that doesn't hold, that frame's own included. */
function countLostCommits(read: Read): number {
  const header = Buffer.alloc(headerBytes);
  if (read(header, 0) < headerBytes) return 0;
  const magic = header.readUInt32BE(0);
  if (magic !== magicLittleEndian && magic !== magicLittleEndian + 1) return 0;
  const sum = createChecksum(magic === magicLittleEndian);
  sum.add(header, 0, 24);
  // A log that begins with damage can't be told from one that was never begun.
  if (!sum.is(header, 24)) return 0;
  const frame = Buffer.alloc(frameHeaderBytes + header.readUInt32BE(8));
  const salts = header.subarray(16, 24);
  let isWhole = true;
  let lost = 0;
  for (let at = headerBytes; read(frame, at) === frame.length; at += frame.length) {
    const isOfThisLog = salts.equals(frame.subarray(8, 16));
    if (isWhole && isOfThisLog) {
      sum.add(frame, 0, 8);
      sum.add(frame, frameHeaderBytes, frame.length);
    }
    isWhole = isWhole && isOfThisLog && sum.is(frame, 16);
    const isCommit = frame.readUInt32BE(4) !== 0;
    if (!isWhole && isOfThisLog && isCommit) lost += 1;
  }
  return lost;
}

function createChecksum(isLittleEndian: boolean) {
  let [first, second] = [0, 0];
  return {
    /** Bytes from `start` up to `end`, eight at a time. */
    add(bytes: Buffer, start: number, end: number): void {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let at = start; at < end; at += 8) {
        first = (first + view.getUint32(at, isLittleEndian) + second) >>> 0;
        second = (second + view.getUint32(at + 4, isLittleEndian) + first) >>> 0;
      }
    },
    /** Whether the two words at a place are the checksum up to now. */
    is: (bytes: Buffer, at: number): boolean =>
      bytes.readUInt32BE(at) === first && bytes.readUInt32BE(at + 4) === second,
  };
}
