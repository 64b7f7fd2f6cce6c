/** Completion as bash, zsh and fish make of it: each is asked what it offers for a line. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";

const spire = join(root, "dist/spire");
let folder: string;
const script = (shell: string): string => join(folder, `spire.${shell}`);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "spire-completion-"));
  for (const shell of ["bash", "zsh", "fish"]) {
    const { stdout, exitCode } = Bun.spawnSync([spire, "completion", shell]);
    expect(exitCode).toBe(0);
    await Bun.write(script(shell), stdout.toString());
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function linesOf(command: readonly string[]): readonly string[] {
  const { stdout, stderr, exitCode } = Bun.spawnSync([...command], {
    env: { PATH: process.env["PATH"] ?? "", HOME: folder, TERM: "dumb", LANG: "C.UTF-8" },
  });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  return stdout
    .toString()
    .split("\n")
    .filter((line) => line !== "")
    .sort();
}

/** As readline would split the line, and call what completes it. */
const askBash = (line: string): readonly string[] => {
  const words = line.split(/(=)| +/).filter((word) => word !== undefined);
  const program = `source "$1"; shift
    compopt() { COMPREPLY=("<$*>"); offered="<$*>"; }
    function=$(complete -p "$1"); function=\${function#complete -F }; function=\${function%% *}
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); offered=
    "$function"
    printf '%s\\n' "$offered" "\${COMPREPLY[@]}"`;
  return [...new Set(linesOf(["bash", "--norc", "-c", program, "bash", script("bash"), ...words]))];
};

const askZsh = (line: string): readonly string[] =>
  linesOf(["zsh", "-f", join(import.meta.dir, "capture.zsh"), script("zsh"), line]);

const askFish = (line: string): readonly string[] =>
  linesOf(["fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", script("fish"), line]).map(
    (offer) => offer.split("\t")[0] ?? "",
  );

/** Line > what is offered, by every shell. */
const offers: readonly (readonly [string, readonly string[]])[] = [
  ["spire ser", ["server"]],
  ["spire server ent", ["entry"]],
  ["spire-server entry ", ["count", "create", "delete", "show", "update"]],
  ["spire-agent api f", ["fetch"]],
  ["spire server localauthority x509 t", ["taint"]],
  ["spire-server entry show -out", ["-output"]],
  ["spire-server entry show -spiffeID x -matchS", ["-matchSelectorsOn"]],
  ["spire-server entry show -output ", ["json", "pretty"]],
  ["spire server entry show -matchSelectorsOn su", ["subset", "superset"]],
  ["spire-server bundle delete -mode d", ["delete", "dissociate"]],
  ["spire-server agent list -banned ", ["false", "true"]],
  ["spire completion ", ["bash", "fish", "zsh"]],
];

describe.each([
  ["bash", askBash],
  ["zsh", askZsh],
  ["fish", askFish],
] as const)("%s", (_, ask) => {
  test.each(offers)("%s", (line, offered) => {
    expect(ask(line)).toEqual([...offered]);
  });
});

test("bash completes values after an equals sign and flags of two hyphens, and files where any text may stand", () => {
  expect(askBash("spire-server entry show -output=j")).toEqual(["json"]);
  expect(askBash("spire-server entry show --outp")).toEqual(["--output"]);
  expect(askBash("spire-server entry create -data x")).toEqual(["<-o default>"]);
  expect(askBash("spire dev -- x")).toEqual(["<-o default>"]);
});

describe("what docs/cli.md tells users to do makes completion work in their next shell", () => {
  const page = readFileSync(join(root, "docs/cli.md"), "utf8");
  const blocks = new Map(
    [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, shell = "", content = ""]) => [
      shell,
      content,
    ]),
  );
  test.each([
    ["bash", ["-ic", "complete -p spire-server"], /^complete -F _spire spire-server$/],
    ["zsh", ["-ic", "print $_comps[spire-server]"], /^_spire$/],
    ["fish", ["-c", "complete -C 'spire-server entry d'"], /^delete\t/],
  ] as const)("%s", (shell, ask, answer) => {
    const home = join(folder, `home-${shell}`);
    mkdirSync(join(home, "bin"), { recursive: true });
    symlinkSync(spire, join(home, "bin", "spire"));
    const env = { PATH: `${join(home, "bin")}:${process.env["PATH"]}`, HOME: home, TERM: "dumb" };
    expect(Bun.spawnSync([shell, "-c", blocks.get(shell) ?? "exit 1"], { env }).exitCode).toBe(0);
    const { stdout } = Bun.spawnSync([shell, ...ask], { env, stdin: "ignore" });
    expect(stdout.toString().trim()).toMatch(answer);
  });
});

test("commands that only the program itself calls are not offered", () => {
  for (const ask of [askBash, askZsh, askFish]) expect(ask("spire dev e")).toEqual(["env"]);
});
