/** Why a file could not be read or written, in words for whoever runs the program. */

/** Error code > what to do about it. */
const advice: Readonly<Record<string, string>> = {
  EACCES: "give the user who runs this the right to do so",
  EPERM: "give the user who runs this the right to do so",
  EROFS: "its file system is mounted read-only: mount it for writing, or choose another place",
  ENOSPC: "make room on its file system",
  EDQUOT: "make room within the user's quota",
  EISDIR: "move the directory away",
  ENOTDIR: "choose another place",
  EEXIST: "choose another place",
};

/** The system's reason, and what to do about it where that is known. */
export function reasonOf(caught: unknown): string {
  if (!(caught instanceof Error)) return String(caught);
  const code: unknown = Reflect.get(caught, "code");
  const known = typeof code === "string" ? advice[code] : undefined;
  return known === undefined ? caught.message : `${caught.message}; ${known}`;
}
