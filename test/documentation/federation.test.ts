/** docs/federation.md holds: its configurations are valid, and its commands print what it shows, between two servers. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { root } from "../../scripts/run.ts";
import { parseTrustDomain } from "../../src/core/spiffe-id.ts";
import { pemOf } from "../../src/rpc/tls.ts";
import { createDomain } from "../server/endpoints.ts";
import { createOperator, type Operator } from "./operator.ts";

const page = readFileSync(join(root, "docs/federation.md"), "utf8");
const blocks = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(([, language = "", content = ""]) => ({
  language,
  content,
}));

let operator: Operator;
let endpointPort: number;
beforeAll(async () => {
  operator = await createOperator();
  endpointPort = await freePort();
}, 60_000);
afterAll(async () => {
  await operator.type("kill $(cat run/other.pid); tail --pid=$(cat run/other.pid) -f /dev/null");
  await operator.close();
}, 60_000);

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** A configuration file with this section, from the operator's own. */
const withSection = (file: string, section: string, change = "cat"): string =>
  `${change} server.conf >${file}\ncat >section.tmp <<'END'\n${section}END\nsed -i '/data_dir/r section.tmp' ${file}\n`;

test("each configuration of the page is valid", async () => {
  const domain = await createDomain(parseTrustDomain("example.org"));
  const { cert, key } = pemOf(await domain.identity("/endpoint", ["bundles.example.org"]));
  await operator.type(`cat >bundle.pem.tmp <<'END'\n${cert}END\ncat >bundle.key.tmp <<'END'\n${key}END\n`);
  const configurations = blocks.filter(({ language }) => language === "hcl");
  expect(configurations.length).toBeGreaterThan(3);
  for (const { content } of configurations) {
    const here = content.replace(/\/etc\/spire\/(bundle\.\w+)/g, "$1.tmp");
    const printed = await operator.type(
      `${withSection("checked.conf", here)}spire-server validate -config checked.conf`,
    );
    expect(printed).toBe("SPIRE server configuration file is valid.\n");
  }
}, 60_000);

test("each command prints what the page shows", async () => {
  const [configuration] = blocks;
  const section = configuration?.content
    .replace("8443", String(endpointPort))
    .replace("0.0.0.0", "127.0.0.1");
  const change =
    "sed -e 's/example.org/other.test/; s/bind_port = .*/bind_port = 0/; s|run/server|run/other|; s/\"data/\"other-data/'";
  await operator.type(`${withSection("other.conf", section ?? "", change)}
    spire-server run -config other.conf >run/other.log 2>&1 &
    echo $! >run/other.pid
    until spire-server healthcheck -socketPath run/other.sock >/dev/null 2>&1; do
      kill -0 $(cat run/other.pid) || { cat run/other.log; exit 1; }
    done`);
  const here = (text: string) => text.replaceAll("bundles.other.test:8443", `127.0.0.1:${endpointPort}`);
  for (const [index, { language, content }] of blocks.entries()) {
    if (language !== "sh") continue;
    const isThere = content.startsWith("# at other.test\n");
    const at = isThere ? "export SPIRE_SERVER_PRIVATE_SOCKET=run/other.sock\n" : "";
    const printed = await operator.type(at + here(content));
    const shown = blocks[index + 1];
    if (shown?.language === "text") expect(printed.trim()).toMatch(patternOf(here(shown.content)));
  }
}, 60_000);

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const patternOf = (shown: string): RegExp =>
  new RegExp(`^${shown.trim().split("…").map(escaped).join("[\\s\\S]*?")}$`);
