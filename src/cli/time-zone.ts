/** What a time zone calls itself (`CET`, `IST`), which the runtime doesn't know of all: from the system's files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Where systems keep them. */
const folders = ["/usr/share/zoneinfo", "/usr/lib/locale/TZ", "/etc/zoneinfo"];

/**
 * The letters of the zone of this process at a time.
 * @param offset seconds to the east of Greenwich at that time. @returns undefined where no file tells.
 */
export function zoneLetters(unixSeconds: number, offset: number): string | undefined {
  for (const path of pathsOf(process.env["TZ"])) {
    const file = read(path);
    const letters = file && lettersIn(file, unixSeconds, offset);
    if (letters) return letters;
  }
  return undefined;
}

function pathsOf(zone: string | undefined): readonly string[] {
  if (zone === undefined) return ["/etc/localtime"];
  const name = zone.replace(/^:/, "");
  if (name === "" || name.includes("..")) return [];
  return name.startsWith("/") ? [name] : folders.map((folder) => join(folder, name));
}

function read(path: string): DataView | undefined {
  try {
    const { buffer, byteOffset, byteLength } = readFileSync(path);
    return new DataView(buffer, byteOffset, byteLength);
  } catch {
    return undefined;
  }
}

const headerLength = 44;

/** Numbers of each kind of record (RFC 9636, section 3.1). */
function countsAt(file: DataView, at: number) {
  const count = (index: number): number => file.getUint32(at + 20 + 4 * index);
  return { utc: count(0), std: count(1), leap: count(2), times: count(3), types: count(4), chars: count(5) };
}

/** Of a TZif file (RFC 9636) of version 2 or later, whose second block has times of 64 bits. */
function lettersIn(file: DataView, unixSeconds: number, offset: number): string | undefined {
  if (file.byteLength < headerLength || file.getUint32(0) !== 0x545a6966 || file.getUint8(4) < 0x32)
    return undefined;
  const first = countsAt(file, 0);
  const firstLength =
    5 * first.times + 6 * first.types + first.chars + 8 * first.leap + first.std + first.utc;
  const second = headerLength + firstLength;
  const { times, types, chars } = countsAt(file, second);
  const timesAt = second + headerLength;
  const typesAt = timesAt + 9 * times;
  const charsAt = typesAt + 6 * types;
  const lettersOf = (type: number): string => {
    let text = "";
    for (let at = charsAt + file.getUint8(typesAt + 6 * type + 5); at < charsAt + chars; at += 1) {
      const code = file.getUint8(at);
      if (code === 0) break;
      text += String.fromCharCode(code);
    }
    return text;
  };
  const fits = (type: number): boolean => file.getInt32(typesAt + 6 * type) === offset;
  // The latest change before the time; files may leave out changes to come, so the latest of all that fit is next best.
  let latest: number | undefined;
  for (let index = times - 1; index >= 0; index -= 1) {
    const type = file.getUint8(timesAt + 8 * times + index);
    if (!fits(type)) continue;
    latest ??= type;
    if (Number(file.getBigInt64(timesAt + 8 * index)) <= unixSeconds) return lettersOf(type);
  }
  const only = Array.from({ length: types }, (_, type) => type).find(fits);
  const type = latest ?? only;
  return type === undefined ? undefined : lettersOf(type);
}
