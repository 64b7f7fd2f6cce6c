/** A small disk of one test's own: a tmpfs in a mount namespace, which goes with the process that holds it. */
import { cpSync, mkdirSync, statfsSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { World } from "./world.ts";

export interface SmallDisk {
  /** Words that start a program where it sees the disk at `path`. */
  readonly wrap: readonly string[];
  /** Where programs see it. */
  readonly path: string;
  /** Where the test sees it. */
  readonly outside: string;
  /** Copies a folder to where all programs see it, SQLite's library too. @returns the copy's path. */
  copyOut(name: string): string;
  /** Takes all but `spare` bytes (whole pages of 4,096). */
  fill(spare: number): void;
  /** Gives back what `fill` took. */
  free(): void;
}

/** @param size bytes. */
export async function createSmallDisk(world: World, size: number): Promise<SmallDisk> {
  const path = world.path("disk");
  mkdirSync(path);
  const namespaces = ["--user", "--map-root-user", "--mount"];
  const script = `mount -t tmpfs -o size=${size},mode=700 tmpfs "$0" && echo mounted && exec sleep infinity`;
  const holder = world.run(["unshare", ...namespaces, "sh", "-c", script, path]);
  await holder.out.next((line) => line === "mounted");
  const outside = `/proc/${holder.pid}/root${path}`;
  const filler = join(outside, "filler");
  return {
    wrap: ["nsenter", "--user", "--mount", "--preserve-credentials", `--target=${holder.pid}`],
    path,
    outside,
    copyOut(name) {
      const copy = world.path(`copy-of-${name}`);
      cpSync(join(outside, name), copy, { recursive: true });
      return copy;
    },
    fill(spare) {
      const { bavail, bsize } = statfsSync(outside);
      writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - spare)));
    },
    free() {
      truncateSync(filler);
      unlinkSync(filler);
    },
  };
}
