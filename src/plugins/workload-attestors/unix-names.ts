/** Names of users and groups from /etc/passwd and /etc/group. */
import { readFileSync, statSync } from "node:fs";

export interface NameTable {
  /** Changes whenever the file did. */
  version(): string;
  /** The name of a decimal ID as of the last `version()`; undefined when the file has none. */
  nameOf(id: string): string | undefined;
}

/** passwd(5) and group(5) agree in what matters here: name first, numeric ID third, colons between. */
export function createNameTable(path: string): NameTable {
  let version = "";
  let names: ReadonlyMap<string, string> = new Map();
  return {
    version() {
      const current = versionOf(path);
      if (current !== version) names = current === "" ? new Map() : readNames(path);
      version = current;
      return version;
    },
    nameOf: (id) => names.get(id),
  };
}

/** Inode, time and size, so that a file that was replaced in the same instant is seen as well; "" = no file. */
function versionOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat ? `${stat.ino}:${stat.mtimeMs}:${stat.size}` : "";
}

function readNames(path: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const line of readFileSync(path, "utf8").split("\n")) {
    const [name, , id] = line.split(":");
    // The first line of an ID counts, as with getpwuid(3).
    if (name && id && !names.has(id)) names.set(id, name);
  }
  return names;
}
