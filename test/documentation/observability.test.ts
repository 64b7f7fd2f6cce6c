/** docs/observability.md holds: its configuration is taken, its commands print what it shows, its metrics are there. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";
import { createOperator, type Operator } from "./operator.ts";

const page = readFileSync(join(root, "docs/observability.md"), "utf8");
/** The port that the page shows may be taken. */
let port: number;
let operator: Operator;

beforeAll(async () => {
  port = await freePort();
  operator = await createOperator();
}, 60_000);
afterAll(() => operator.close(), 60_000);

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

const onFreePort = (text: string): string => text.replaceAll("9988", String(port));

/** What fetches a page, for machines without curl. */
const curl = `command -v curl >/dev/null || curl() { ${process.execPath} -e 'console.log(await (await fetch(process.argv.at(-1))).text())' "$@"; }`;

interface Block {
  readonly language: string;
  readonly content: string;
}

const readBlocks = (): readonly Block[] =>
  [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language = "", content = ""]) => ({
    language,
    content: onFreePort(content),
  }));

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const patternOf = (shown: string): RegExp =>
  new RegExp(`^${shown.trim().split("…").map(escaped).join("[\\s\\S]*?")}$`);

test("each command prints what the page shows, with the page's configuration", async () => {
  const blocks = readBlocks();
  const [configuration] = blocks.filter(({ language }) => language === "hcl");
  await operator.type(`cat >>server.conf <<'END'\n${configuration?.content}END\n`);
  let typed = 0;
  for (const [index, { language, content }] of blocks.entries()) {
    if (language !== "sh") continue;
    const printed = await operator.type(`${curl}\n${content}`);
    const shown = blocks[index + 1];
    if (shown?.language === "text") expect(printed.trim()).toMatch(patternOf(shown.content));
    typed += 1;
  }
  expect(typed).toBeGreaterThan(4);
}, 60_000);

test("each configuration that it shows is valid", async () => {
  const shown = readBlocks().filter(({ language }) => language === "hcl");
  for (const { content } of shown) {
    await operator.type(`cp server.conf shown.conf\ncat >>shown.conf <<'END'\n${content}END\n`);
    expect(await operator.type("spire-server validate -config shown.conf")).toContain("is valid");
  }
  expect(shown).toHaveLength(2);
});

test("each metric that it names is one of stock SPIRE's, or one of this server's own", () => {
  const recorded: { name: string }[] = JSON.parse(
    readFileSync(join(root, "test/golden/metrics/server.json"), "utf8"),
  );
  const own = [
    "spire_server_rotation_stage",
    "spire_server_rotation_waiting_agents",
    "spire_server_rotation_result",
    "spire_server_backup",
    "spire_server_backup_last_success",
    "spire_server_backup_size_bytes",
    "spire_server_bundle_count",
    // stock SPIRE's, of its events-based cache
    "spire_server_entry_entries_by_entryid_cache_count",
    "spire_server_node_agents_by_id_cache_count",
  ];
  const known = [...recorded.map(({ name }) => name), ...own];
  const named = [...page.matchAll(/spire_server_\w+(?![\w…*])/g)].map(([name]) => name);
  const whole = named.filter((name) => !name.endsWith("_"));
  expect(whole.length).toBeGreaterThan(20);
  expect(whole.filter((name) => !known.includes(name))).toEqual([]);
});
