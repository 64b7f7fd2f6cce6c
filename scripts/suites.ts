/** What `npm test` consists of: one table of suites and what each needs from the machine. */
import { existsSync } from "node:fs";

/** Something that a suite needs and npm cannot bring. */
interface Need {
  readonly found: () => boolean;
  /** How to get it, for people; apt-get's names are Debian's. */
  readonly get: string;
}

const onPath = (...names: string[]) => names.every((name) => Bun.which(name) !== null);

/** A line that a program prints about itself, such as its version; empty when it cannot be run. */
function answer(...command: string[]): string {
  if (!onPath(command[0] ?? "")) return "";
  const { stdout, exitCode } = Bun.spawnSync(command, { stderr: "ignore", stdin: "ignore" });
  return exitCode === 0 ? stdout.toString() : "";
}

function goVersionAtLeast(minor: number): boolean {
  const [, found] = /go1\.(\d+)/.exec(answer("go", "version")) ?? [];
  return found !== undefined && Number(found) >= minor;
}

/** The folder below which Debian's package libc6-arm64-cross puts the libraries of arm64. */
export const arm64Libraries = "/usr/aarch64-linux-gnu";

const needs = {
  linux: { found: () => process.platform === "linux", get: "a Linux machine" },
  go: { found: () => goVersionAtLeast(25), get: "install Go 1.25 or later" },
  python: {
    found: () =>
      answer("python3", "-c", "import sys, ensurepip, venv; print(sys.version_info >= (3, 9))") === "True\n",
    get: "install Python 3.9 or later with venv; apt-get install python3-venv",
  },
  haproxy: {
    found: () => onPath("haproxy") || existsSync("/usr/sbin/haproxy"),
    get: "on Debian: apt-get install haproxy",
  },
  systemd: { found: () => onPath("systemd-analyze"), get: "on Debian: apt-get install systemd" },
  openssl: { found: () => onPath("openssl"), get: "apt-get install openssl" },
  node: { found: () => onPath("node"), get: "install Node.js 20 or later" },
  qemu: {
    found: () => onPath("qemu-aarch64-static"),
    get: "apt-get install qemu-user-static",
  },
  arm64Libraries: {
    found: () => existsSync(`${arm64Libraries}/lib/libc.so.6`),
    get: "apt-get install libc6-arm64-cross",
  },
  strace: {
    found: () => answer("strace", "--output=/dev/null", "echo", "in") === "in\n",
    get: "on Debian: apt-get install strace",
  },
  faketime: {
    found: () => new Bun.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1").scanSync("/").next().done === false,
    get: "on Debian: apt-get install faketime",
  },
  namespaces: {
    found: () =>
      answer("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "echo", "in") === "in\n",
    get: "run as root, or where users may make namespaces, with util-linux",
  },
  shells: { found: () => onPath("bash", "zsh", "fish"), get: "apt-get install bash zsh fish" },
  utilLinux: {
    found: () => onPath("prlimit", "setpriv"),
    get: "on Debian: apt-get install util-linux",
  },
} satisfies Record<string, Need>;

export type NeedName = keyof typeof needs;

export interface Suite {
  readonly name: string;
  /** Test files, as glob patterns from the repository's root. */
  readonly files: readonly string[];
  readonly needs: readonly NeedName[];
  /** Whether it starts dist/spire. */
  readonly binary: boolean;
}

/** In the order of running. A file belongs to the first suite that names it. */
export const suites: readonly Suite[] = [
  {
    name: "unit",
    files: ["src/**/*.test.ts", "scripts/**/*.test.ts", "bench/**/*.test.ts"],
    needs: [],
    binary: false,
  },
  { name: "fuzz-hcl", files: ["test/fuzz/hcl/hcl.test.ts"], needs: ["go"], binary: false },
  {
    name: "fuzz-agent-path",
    files: ["test/fuzz/agent-path/agent-path.test.ts"],
    needs: ["go"],
    binary: false,
  },
  { name: "interop-go", files: ["test/interop/go.test.ts"], needs: ["linux", "go"], binary: true },
  { name: "interop-pq", files: ["test/interop/pq.test.ts"], needs: ["linux", "go"], binary: false },
  {
    name: "interop-python",
    files: ["test/interop/python.test.ts"],
    needs: ["linux", "python"],
    binary: true,
  },
  {
    name: "interop-python-go",
    files: ["test/interop/python-go.test.ts"],
    needs: ["linux", "python", "go"],
    binary: true,
  },
  { name: "interop-node", files: ["test/interop/node.test.ts"], needs: ["linux", "node"], binary: true },
  {
    name: "interop-openssl",
    files: [
      "test/interop/openssl.test.ts",
      "test/interop/openssl-upstream.test.ts",
      "test/documentation/upstream-authorities.test.ts",
    ],
    needs: ["linux", "openssl"],
    binary: true,
  },
  {
    name: "interop-haproxy",
    files: ["test/interop/haproxy.test.ts"],
    needs: ["linux", "haproxy"],
    binary: false,
  },
  { name: "interop-acme", files: ["test/interop/acme.test.ts"], needs: ["go"], binary: false },
  {
    name: "completion",
    files: ["test/completion/completion.test.ts"],
    needs: ["linux", "shells"],
    binary: true,
  },
  { name: "interop-jose", files: ["test/interop/jose.test.ts"], needs: ["linux"], binary: true },
  {
    name: "arm64",
    files: ["test/interop/arm64.test.ts"],
    needs: ["linux", "qemu", "arm64Libraries"],
    binary: true,
  },
  {
    name: "faults-clock",
    files: ["test/faults/clock.test.ts"],
    needs: ["linux", "faketime"],
    binary: true,
  },
  {
    name: "faults-kill",
    files: [
      "test/faults/crash-points.test.ts",
      "test/faults/restore-crash.test.ts",
      "test/faults/rotate.test.ts",
    ],
    needs: ["linux", "strace"],
    binary: true,
  },
  {
    name: "faults-rotation",
    files: ["test/faults/rotation-crash.test.ts"],
    needs: ["linux", "strace", "faketime"],
    binary: true,
  },
  {
    name: "faults-namespaces",
    files: ["test/faults/full-disk.test.ts", "test/faults/pid-namespace.test.ts"],
    needs: ["linux", "namespaces"],
    binary: true,
  },
  {
    name: "faults",
    files: ["test/faults/*.test.ts"],
    needs: ["linux", "utilLinux"],
    binary: true,
  },
  { name: "soak-rotation", files: ["test/soak/rotation.test.ts"], needs: ["linux", "go"], binary: true },
  {
    name: "systemd",
    files: ["test/process/systemd-units.test.ts"],
    needs: ["linux", "systemd"],
    binary: false,
  },
  { name: "integration", files: ["test/**/*.test.ts"], needs: [], binary: true },
];

/** What a suite lacks on this machine: name and way to get it. */
export function missing(suite: Suite): readonly { name: NeedName; get: string }[] {
  return suite.needs.filter((name) => !needs[name].found()).map((name) => ({ name, get: needs[name].get }));
}
