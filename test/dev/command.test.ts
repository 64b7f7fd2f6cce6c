/** `spire dev -- command`: exit codes, signals, and that neither outlives the other or the one who started them. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSandbox, finish, program, type Sandbox } from "./program.ts";

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(() => sandbox.close());

const beside = (...command: string[]) => sandbox.spire("dev", "--", ...command);

describe("the command", () => {
  test("has the environment of the instance and standard output to itself", async () => {
    const { code, out, err } = await finish(beside("sh", "-c", "echo $SPIFFE_ENDPOINT_SOCKET; exit 7"));
    expect(code).toBe(7);
    expect(out).toMatch(/^unix:\/\/\/.*agent\.sock\n$/);
    expect(err).toMatch(/^READY in \d+ ms$/m);
    expect(readdirSync(sandbox.runtimeDirectory)).toEqual([]);
  });

  test("can be given flags of its own, and words that dev knows", async () => {
    const { out } = await finish(beside("echo", "--name", "env", "--", "-h"));
    expect(out).toBe("--name env -- -h\n");
  });

  test("gets an identity", async () => {
    const { code, out } = await finish(beside(...program, "agent", "api", "fetch", "x509"));
    expect(code).toBe(0);
    expect(out).toContain("Received 1 svid");
  });

  test.each([
    [["no-such-command"], 127, "no-such-command: command not found"],
    [["./plain-file"], 126, "./plain-file: can't be run (EACCES)"],
  ])("%j can't be run", async (command, exitCode, message) => {
    writeFileSync(join(sandbox.directory, "plain-file"), "");
    const { code, err } = await finish(beside(...command));
    expect(code).toBe(exitCode);
    expect(err).toContain(message);
  });

  test("starts with fresh signal handling and no open files of dev", async () => {
    const script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd";
    const { out } = await finish(beside("sh", "-c", script));
    expect(out.replace(/\s+/g, " ")).toBe("SigBlk: 0000000000000000 SigIgn: 0000000000000000 0 1 2 3 ");
  });

  test("with JSON, the report goes to standard error as one line", async () => {
    const running = sandbox.spire("dev", "--output", "json", "--", "true");
    const { out, err } = await finish(running);
    expect(out).toBe("");
    expect(JSON.parse(err)).toMatchObject({ pid: running.pid });
  });
});

describe("signals", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s ends the command, and dev says so", async (signal, exitCode) => {
    const running = beside("sh", "-c", "echo up; exec sleep 1000");
    await running.out.next();
    running.kill(signal);
    expect(await running.ended).toBe(exitCode);
    await running.out.all();
    expect(readdirSync(sandbox.runtimeDirectory)).toEqual([]);
  });

  test("a command may handle them and go on", async () => {
    const script =
      "trap 'echo int' INT; trap 'echo usr; kill $pid; exit 3' USR1; echo up; sleep 1000 & pid=$!; while :; do wait; done";
    const running = beside("bash", "-c", script);
    await running.out.next((line) => line === "up");
    running.kill("SIGINT");
    await running.out.next((line) => line === "int");
    running.kill("SIGUSR1");
    await running.out.next((line) => line === "usr");
    expect(await running.ended).toBe(3);
  });

  test("what the command had started ends with it", async () => {
    const running = beside("sh", "-c", "(trap '' INT; sleep 1000) & sleep 1000; true");
    await running.err.next((line) => line.startsWith("READY"));
    running.kill("SIGTERM");
    expect(await running.ended).toBe(143);
    // Ends when the last holder of the pipe does.
    await running.out.all();
  });

  test("a command that a signal ends by itself gives that code", async () => {
    const { code } = await finish(beside("sh", "-c", "kill -KILL $$"));
    expect(code).toBe(137);
  });
});

describe.skipIf(process.platform !== "linux")("nothing outlives its reason", () => {
  /** Starts dev as the child of a shell, and resolves to the shell's and dev's PIDs once the command is up. */
  async function underShell(...command: string[]) {
    const script = '"$@" & echo "dev $!"; wait';
    const shell = sandbox.start(["sh", "-c", script, "sh", ...program, "dev", "--", ...command]);
    const dev = Number((await shell.out.next((line) => line.startsWith("dev "))).slice(4));
    await shell.out.next((line) => line === "up");
    return { shell, dev };
  }

  test("when the parent of dev dies, dev and the command end", async () => {
    const { shell } = await underShell("sh", "-c", "echo up; exec sleep 1000");
    shell.kill("SIGKILL");
    await shell.out.all();
    await shell.err.all();
    expect(readdirSync(sandbox.runtimeDirectory)).toEqual([]);
  });

  test("when dev is killed, the command ends", async () => {
    const { shell, dev } = await underShell("sh", "-c", "trap '' TERM INT HUP; echo up; exec sleep 1000");
    process.kill(dev, "SIGKILL");
    await shell.ended;
  });

  test("when dev is killed, its command's output is closed", async () => {
    const running = beside("sh", "-c", "echo up; exec sleep 1000");
    await running.out.next();
    running.kill("SIGKILL");
    await running.out.all();
  });
});

test("a script may be the command", async () => {
  const script = join(sandbox.directory, "it's a script");
  writeFileSync(script, '#!/bin/sh\nprintf "%s|" "$@"\n');
  chmodSync(script, 0o755);
  const { out } = await finish(beside(script, "a b", "", "$HOME"));
  expect(out).toBe("a b||$HOME|");
});
