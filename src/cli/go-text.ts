/** Text as Go's standard library writes it: times and the names of codes, and with them what core knows of it. */
import { type StatusName, statusCodes } from "../core/errors.ts";
import { zoneLetters } from "./time-zone.ts";

export { formatGoDuration, parseGoDuration, quote, systemErrorText } from "../core/go-text.ts";

const two = (value: number): string => String(value).padStart(2, "0");

/** The zone's letters where they are known (`UTC`, `EST`), else its offset, as Go does for nameless zones. */
function zoneName(date: Date, offset: string): string {
  const letters = zoneLetters(date.getTime() / 1000, -60 * date.getTimezoneOffset());
  if (letters !== undefined) return letters;
  const parts = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" }).formatToParts(date);
  const name = parts.find((part) => part.type === "timeZoneName")?.value ?? "";
  if (/^[A-Z]+$/.test(name)) return name;
  return offset.endsWith("00") ? offset.slice(0, 3) : offset;
}

/** `2026-01-01 00:00:00 +0000 UTC` in local time, like Go's `time.Unix(s, 0).String()`. */
export function formatGoTime(unixSeconds: number): string {
  const date = new Date(unixSeconds * 1000);
  const minutes = -date.getTimezoneOffset();
  const absolute = Math.abs(minutes);
  const offset = `${minutes < 0 ? "-" : "+"}${two(Math.floor(absolute / 60))}${two(absolute % 60)}`;
  const day = `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time} ${offset} ${zoneName(date, offset)}`;
}

/** `2026-01-01 00:00:00 +0000 UTC`, like Go's `time.Unix(s, 0).UTC().String()`. */
export const formatGoUtcTime = (unixSeconds: number): string =>
  `${formatRfc3339(unixSeconds).replace("T", " ").replace("Z", "")} +0000 UTC`;

/** `2026-01-01T00:00:00Z`. */
export const formatRfc3339 = (unixSeconds: number): string =>
  new Date(unixSeconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");

/** gRPC code names as Go spells them: 5 or `NOT_FOUND` > `NotFound`, `CANCELLED` > `Canceled`. */
export function goCodeName(code: number | StatusName): string {
  const name = Object.entries(statusCodes).find(([text, number]) => text === code || number === code)?.[0];
  if (name === undefined) return `Code(${code})`;
  if (name === "OK") return name;
  if (name === "CANCELLED") return "Canceled";
  return name
    .toLowerCase()
    .split("_")
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join("");
}
