/** What outlives a run of `spire dev`, and what follows an entries file. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createSandbox, finish, type Lines, type Running, type Sandbox } from "./program.ts";

let sandbox: Sandbox;
beforeEach(() => {
  sandbox = createSandbox();
});
afterEach(() => sandbox.close());

const uid = String(process.getuid?.());
const here = (name: string) => join(sandbox.directory, name);

async function stop(running: Running): Promise<void> {
  running.kill("SIGTERM");
  expect(await running.ended).toBe(0);
}

describe("--data-dir", () => {
  test("keeps CA, agent and entries, also those made by hand", async () => {
    const first = await sandbox.dev(
      "--data-dir",
      "state",
      "--trust-domain",
      "kept.test",
      "--entry",
      `/web=unix:uid:${uid}`,
    );
    const socket = ["-socketPath", first.ready.server_socket];
    const entry = [
      "-spiffeID",
      "spiffe://kept.test/db",
      "-parentID",
      first.ready.agent_id,
      "-selector",
      `unix:uid:${uid}`,
    ];
    expect(await finish(sandbox.spire("server", "entry", "create", ...socket, ...entry))).toMatchObject({
      code: 0,
    });
    await stop(first.running);
    expect(statSync(here("state")).mode & 0o7777).toBe(0o700);

    const { running, ready } = await sandbox.dev("--data-dir", "state");
    const { trust_domain, agent_id, ca_sha256 } = first.ready;
    expect(ready).toMatchObject({ trust_domain, agent_id, ca_sha256 });
    expect(ready.entries.map(({ spiffe_id }) => spiffe_id).sort()).toEqual([
      "spiffe://kept.test/db",
      "spiffe://kept.test/web",
    ]);
    const fetched = await finish(
      sandbox.spire("agent", "api", "fetch", "x509", "-socketPath", ready.workload_api_socket),
    );
    expect(fetched.out).toContain("Received 2 svids");
    await stop(running);
  });

  test("goes on after the instance was killed", async () => {
    const first = await sandbox.dev("--data-dir", "state");
    first.running.kill("SIGKILL");
    await first.running.ended;
    const { ready } = await sandbox.dev("--data-dir", "state");
    expect(ready.agent_id).toBe(first.ready.agent_id);
    expect(ready.entries).toEqual(first.ready.entries);
  });

  test("serves one instance, and one trust domain", async () => {
    const { running } = await sandbox.dev("--data-dir", "state");
    const second = await finish(sandbox.spire("dev", "--data-dir", "state"));
    expect(second.code).toBe(1);
    expect(second.err).toContain("is in use by another development instance");
    await stop(running);
    const other = await finish(sandbox.spire("dev", "--data-dir", "state", "--trust-domain", "other.test"));
    expect(other.code).toBe(1);
    expect(other.err).toContain('belongs to trust domain "example.org", not "other.test"');
  });

  test("is refused by server, and a server's is refused by dev", async () => {
    const { running } = await sandbox.dev("--data-dir", "state");
    await stop(running);
    const server = (directory: string) =>
      sandbox.spire(
        "server",
        "run",
        "-trustDomain",
        "example.org",
        "-dataDir",
        directory,
        "-serverPort",
        "0",
        "-bindAddress",
        "127.0.0.1",
        "-socketPath",
        here("server.sock"),
      );
    const refused = await finish(server("state"));
    expect(refused.code).toBe(1);
    expect(refused.err + refused.out).toMatch(/is the state of a .*spire dev.* instance/);
    expect(existsSync(here("server.sock"))).toBe(false);

    mkdirSync(here("real"));
    writeFileSync(join(here("real"), "datastore.sqlite3"), "");
    const dev = await finish(sandbox.spire("dev", "--data-dir", "real"));
    expect(dev.code).toBe(1);
    expect(dev.err).toContain("is not a development instance's");
  });

  test("a banned agent is replaced at the next start", async () => {
    const first = await sandbox.dev("--data-dir", "state");
    const ban = [
      "server",
      "agent",
      "ban",
      "-socketPath",
      first.ready.server_socket,
      "-spiffeID",
      first.ready.agent_id,
    ];
    expect(await finish(sandbox.spire(...ban))).toMatchObject({ code: 0 });
    expect(await first.running.ended).toBe(1);
    const { ready } = await sandbox.dev("--data-dir", "state");
    expect(ready.agent_id).not.toBe(first.ready.agent_id);
  });

  test("an evicted agent attests again as the same", async () => {
    const { running, ready } = await sandbox.dev("-v");
    await running.err.next((line) => line.includes("Node attestation was successful"));
    const evict = [
      "server",
      "agent",
      "evict",
      "-socketPath",
      ready.server_socket,
      "-spiffeID",
      ready.agent_id,
    ];
    expect(await finish(sandbox.spire(...evict))).toMatchObject({ code: 0 });
    const line = await running.err.next((text) => text.includes("Node attestation was successful"));
    expect(line).toContain(ready.agent_id);
  });
});

describe("-f", () => {
  const web = `entries:\n- spiffe_id: /web\n  selectors: [unix:uid:${uid}]\n`;
  const both = `${web}- spiffe_id: /db\n  selectors: [unix:uid:${uid}]\n`;

  /** What an open stream is told: the SPIFFE IDs of one update. */
  async function update(out: Lines): Promise<string[]> {
    const [, count = "0"] =
      /^Received (\d+) svid/.exec(await out.next((line) => line.startsWith("Received"))) ?? [];
    const ids: string[] = [];
    while (ids.length < Number(count)) {
      const line = await out.next((text) => text.startsWith("SPIFFE ID:"));
      ids.push(line.replace(/^SPIFFE ID:\s+/, ""));
    }
    return ids.sort();
  }

  test("an edit reaches open streams; a broken one is named and changes nothing", async () => {
    writeFileSync(here("entries.yaml"), web);
    const { running, ready } = await sandbox.dev("-f", "entries.yaml");
    const { out } = sandbox.spire("agent", "api", "watch", "-socketPath", ready.workload_api_socket);
    expect(await update(out)).toEqual(["spiffe://example.org/web"]);

    writeFileSync(here("entries.yaml"), both);
    expect(await update(out)).toEqual(["spiffe://example.org/db", "spiffe://example.org/web"]);

    writeFileSync(here("entries.yaml"), `${web}- spiffe_id: /db\n  selectors: unix\n`);
    expect(await running.err.next()).toContain(
      "entries.yaml:5:14: must be a list; the entries stay as they were",
    );
    writeFileSync(here("entries.yaml"), `${web}- {`);
    expect(await running.err.next()).toMatch(/entries\.yaml:\d+:\d+: /);

    // As editors do: a new file in the place of the old one.
    writeFileSync(here("entries.new"), both.replace("/web", "/app"));
    renameSync(here("entries.new"), here("entries.yaml"));
    expect(await update(out)).toContain("spiffe://example.org/app");
    const shown = await finish(sandbox.spire("server", "entry", "count", "-socketPath", ready.server_socket));
    expect(shown.out).toContain("2 registration entries");
  });

  test("a file that was edited while nothing ran is applied at the start; others' entries stay", async () => {
    writeFileSync(
      here("entries.json"),
      JSON.stringify({
        entries: [
          { spiffe_id: "/a", selectors: ["unix:uid:1"] },
          { spiffe_id: "/b", selectors: ["unix:uid:2"] },
        ],
      }),
    );
    const first = await sandbox.dev(
      "--data-dir",
      "state",
      "-f",
      "entries.json",
      "--entry",
      "/mine=unix:uid:3",
    );
    expect(first.ready.entries).toHaveLength(3);
    await stop(first.running);
    writeFileSync(
      here("entries.json"),
      JSON.stringify({ entries: [{ spiffe_id: "/b", selectors: ["unix:uid:2"] }] }),
    );
    const { ready } = await sandbox.dev("--data-dir", "state", "-f", "entries.json");
    expect(ready.entries.map(({ spiffe_id }) => spiffe_id)).toEqual([
      "spiffe://example.org/mine",
      "spiffe://example.org/b",
    ]);
  });

  test("a broken file keeps dev from starting", async () => {
    writeFileSync(here("entries.json"), '{"entries": [{"spiffe_id": "/a"}]}');
    const { code, err } = await finish(sandbox.spire("dev", "-f", "entries.json"));
    expect(code).toBe(1);
    expect(err).toContain("entries.json:1:14: selectors are missing");
  });
});
