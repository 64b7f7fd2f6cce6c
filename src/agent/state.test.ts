import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportPublicKeyInfo } from "../core/keys.ts";
import { parseCertificate } from "../core/x509/certificate.ts";
import { createDiskKeyManager } from "../plugins/key-managers/disk.ts";
import { createFileStateStore } from "./state.ts";

const golden = join(import.meta.dir, "../../test/golden/disk/agent");
const root = mkdtempSync(join(tmpdir(), "agent-state-"));
afterAll(() => rmSync(root, { recursive: true }));
const newDirectory = () => mkdtempSync(join(root, "data-"));

describe("agent-data.json", () => {
  test("of a stock agent is read, and written again byte for byte", async () => {
    const directory = newDirectory();
    const store = createFileStateStore(directory);
    copyFileSync(join(golden, "agent-data.json"), join(directory, "agent-data.json"));
    const state = await store.load();
    expect(state.reattestable).toBe(false);
    const [uri] = parseCertificate(state.svid[0] ?? Buffer.alloc(0)).uris;
    expect(uri).toStartWith("spiffe://example.org/spire/agent/join_token/");
    await store.save(state);
    const written = readFileSync(join(directory, "agent-data.json"), "utf8");
    expect(written).toBe(readFileSync(join(golden, "agent-data.json"), "utf8"));
  });

  test("and keys.json of a stock agent belong together", async () => {
    const directory = newDirectory();
    for (const name of ["agent-data.json", "keys.json"]) {
      copyFileSync(join(golden, name), join(directory, name));
      chmodSync(join(directory, name), 0o600);
    }
    const { svid } = await createFileStateStore(directory).load();
    const key = await createDiskKeyManager({ path: join(directory, "keys.json") }).get("agent-svid-A");
    const certificate = parseCertificate(svid[0] ?? Buffer.alloc(0));
    expect(key && Buffer.from(exportPublicKeyInfo(key.publicKey))).toEqual(
      Buffer.from(certificate.publicKeyInfo),
    );
  });

  test("is for the agent's user alone, and no temporary file is left", async () => {
    const directory = newDirectory();
    const store = createFileStateStore(directory);
    await Promise.all([1, 2, 3].map(() => store.save({ svid: [], bundle: [], reattestable: true })));
    expect(readdirSync(directory)).toEqual(["agent-data.json"]);
    expect(statSync(join(directory, "agent-data.json")).mode & 0o777).toBe(0o600);
  });

  test("that is missing means a new agent", async () => {
    const state = await createFileStateStore(newDirectory()).load();
    expect(state).toEqual({ svid: [], bundle: [], reattestable: false });
  });

  test.each(["", "{", "[]", '{"svid":[1]}', '{"svid":"x"}'])(
    "that holds %p is named as damaged",
    async (text) => {
      const directory = newDirectory();
      writeFileSync(join(directory, "agent-data.json"), text);
      await expect(createFileStateStore(directory).load()).rejects.toMatchObject({
        code: "FAILED_PRECONDITION",
        message: expect.stringContaining("agent-data.json"),
      });
    },
  );
});
