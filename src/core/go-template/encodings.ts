/** sprig's hashes, encodings, paths and URLs. */
import { hash, randomUUID } from "node:crypto";
import { exactly, type GoFunction, ofText } from "./define.ts";
import { asMap, failed, type GoMap, goMap, typeOf, type Value } from "./values.ts";

/** RFC 1950. */
function adler32(text: string): string {
  let a = 1;
  let b = 0;
  for (const byte of Buffer.from(text)) {
    a = (a + byte) % 65_521;
    b = (b + a) % 65_521;
  }
  return String(b * 65_536 + a);
}

/** sprig gives the error as the result, whose words would then be part of an ID; here it fails. */
function decodeBase64(text: string): string {
  const clean = text.replace(/[\r\n]/g, "");
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(clean)) {
    throw failed("illegal base64 data");
  }
  return Buffer.from(clean, "base64").toString("utf8");
}

const base32Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** RFC 4648, section 6. */
function encodeBase32(text: string): string {
  const bits = [...Buffer.from(text)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  const digits = (bits.match(/.{1,5}/g) ?? [])
    .map((five) => base32Digits[Number.parseInt(five.padEnd(5, "0"), 2)] ?? "")
    .join("");
  return digits.padEnd(Math.ceil(digits.length / 8) * 8, "=");
}

function decodeBase32(text: string): string {
  const clean = text.replace(/[\r\n]/g, "");
  const padding = clean.indexOf("=");
  const digits = padding < 0 || /[^=]/.test(clean.slice(padding)) ? clean : clean.slice(0, padding);
  const isWhole = clean.length % 8 === 0 && [0, 2, 4, 5, 7].includes(digits.length % 8);
  if (!isWhole || !/^[A-Z2-7]*$/.test(digits)) throw failed("illegal base32 data");
  const bits = [...digits].map((digit) => base32Digits.indexOf(digit).toString(2).padStart(5, "0")).join("");
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2))).toString("utf8");
}

/** The shortest path that means the same, by its text alone. */
function clean(path: string): string {
  const isAbsolute = path.startsWith("/");
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.length > 0 && parts.at(-1) !== "..") parts.pop();
    else if (!isAbsolute) parts.push("..");
  }
  return `${isAbsolute ? "/" : ""}${parts.join("/")}` || ".";
}

function base(path: string): string {
  if (path === "") return ".";
  let end = path.length;
  while (path[end - 1] === "/") end -= 1;
  return end === 0 ? "/" : path.slice(path.lastIndexOf("/", end - 1) + 1, end);
}

const dir = (path: string): string => clean(path.slice(0, path.lastIndexOf("/") + 1));

const ext = (path: string): string => /\.[^./]*$/.exec(path)?.[0] ?? "";

/** RFC 3986, appendix B; a scheme with neither slash nor authority makes the rest opaque. */
const urlParts =
  /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?:\/\/(?:([^/?#@]*)@)?([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/s;

/** What no URL may have. */
const hasControlByte = (text: string): boolean =>
  [...text].some((character) => character < " " || character === "\x7f");

function parseUrl(text: string): GoMap {
  const [, scheme = "", userinfo = "", host = "", path = "", query = "", fragment = ""] =
    urlParts.exec(text) ?? [];
  const isBad = hasControlByte(text) || (scheme === "" && /^[^/?#]*:/.test(path)) || / /.test(host);
  if (isBad) throw failed("unable to parse url");
  const isOpaque = scheme !== "" && host === "" && path !== "" && !path.startsWith("/");
  return goMap([
    ["scheme", scheme.toLowerCase()],
    ["host", host],
    ["hostname", host.replace(/:\d*$/, "").replace(/^\[(.*)\]$/, "$1")],
    ["path", isOpaque ? "" : decode(path)],
    ["query", query],
    ["opaque", isOpaque ? path : ""],
    ["fragment", decode(fragment)],
    ["userinfo", userinfo],
  ]);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw failed("unable to parse url");
  }
}

const escapePart = (text: string, keeps: RegExp): string =>
  [...text].map((part) => (keeps.test(part) ? part : encodeURIComponent(part))).join("");

function joinUrl(map: GoMap): string {
  const part = (key: string): string => {
    const value: Value = map.entries.has(key) ? map.entries.get(key) : "";
    if (typeof value === "string") return value;
    throw failed(`unable to parse ${key} key, must be of type string, but ${typeOf(value)} found`);
  };
  const [scheme, host, opaque, userinfo] = [part("scheme"), part("host"), part("opaque"), part("userinfo")];
  const start = scheme === "" ? "" : `${scheme}:`;
  const query = part("query") === "" ? "" : `?${part("query")}`;
  const fragment =
    part("fragment") === "" ? "" : `#${escapePart(part("fragment"), /[\w.~!$&'()*+,;=:@/?-]/)}`;
  if (opaque !== "") return `${start}${opaque}${query}${fragment}`;
  const path = escapePart(part("path"), /[\w.~$&+,/:;=@!'()*-]/);
  const hasAuthority = host !== "" || userinfo !== "" || (scheme !== "" && path.startsWith("//"));
  const authority = hasAuthority ? `//${userinfo === "" ? "" : `${userinfo}@`}${host}` : "";
  const slash = path !== "" && !path.startsWith("/") && host !== "" ? "/" : "";
  return `${start}${authority}${slash}${path}${query}${fragment}`;
}

export const encodingFunctions: Readonly<Record<string, GoFunction>> = {
  sha1sum: ofText((text) => hash("sha1", text)),
  sha256sum: ofText((text) => hash("sha256", text)),
  adler32sum: ofText(adler32),
  b64enc: ofText((text) => Buffer.from(text).toString("base64")),
  b64dec: ofText(decodeBase64),
  b32enc: ofText(encodeBase32),
  b32dec: ofText(decodeBase32),
  base: ofText(base),
  dir: ofText(dir),
  clean: ofText(clean),
  ext: ofText(ext),
  isAbs: ofText((path) => path.startsWith("/")),
  uuidv4: exactly(0, () => randomUUID()),
  urlParse: ofText(parseUrl),
  urlJoin: exactly(1, ([map]) => joinUrl(asMap(map))),
};
