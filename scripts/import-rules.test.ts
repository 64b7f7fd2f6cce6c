/** The import rules find what they forbid, and nothing else. */
import { expect, test } from "bun:test";
import { violations } from "./import-rules.ts";

const broken = (path: string, text: string) => violations({ path, text }).length;

test("server and agent never meet, not even for a type", () => {
  expect(broken("server/attest.ts", 'import type { X } from "../agent/attest.ts";')).toBe(1);
  expect(broken("agent/attest.ts", 'import {\n  X,\n} from "../server/attest.ts";')).toBe(1);
});

test("core imports nothing of the project and does no I/O", () => {
  expect(broken("core/keys.ts", 'import { X } from "../rpc/dial.ts";')).toBe(1);
  expect(broken("core/keys.ts", 'import { readFile } from "node:fs/promises";')).toBe(1);
  expect(
    broken("core/keys.ts", 'import { sign } from "node:crypto";\nimport { X } from "./errors.ts";'),
  ).toBe(0);
});

test("only rpc knows grpc-js", () => {
  expect(broken("server/api/entry.ts", 'import { Server } from "@grpc/grpc-js";')).toBe(1);
  expect(broken("rpc/listen.ts", 'import { Server } from "@grpc/grpc-js";')).toBe(0);
});

test("the server sees a plugin kind's contract, not its instances", () => {
  expect(broken("server/registry.ts", 'import { x } from "../plugins/datastores/index.ts";')).toBe(0);
  expect(broken("server/registry.ts", 'import { x } from "../plugins/datastores/sqlite/store.ts";')).toBe(1);
});

test("main loads modes lazily", () => {
  expect(broken("main.ts", 'const load = () => import("./modes/dev.ts");')).toBe(0);
  expect(broken("main.ts", 'import { startDev } from "./modes/dev.ts";')).toBe(1);
});

test("a re-export counts as an import", () => {
  expect(broken("core/keys.ts", 'export { X } from "../rpc/dial.ts";')).toBe(1);
  expect(broken("core/keys.ts", 'export * from "../rpc/dial.ts";')).toBe(1);
});

test("a computed import is refused; one in a comment or a string is none", () => {
  expect(broken("modes/server.ts", "const load = (name: string) => import(name);")).toBe(1);
  expect(broken("modes/server.ts", "const load = () => import(`./x.ts`);")).toBe(1);
  expect(broken("modes/server.ts", '// import(name)\nconst s = "http://a"; /* import(name) */')).toBe(0);
});

test("relative imports name the file", () => {
  expect(broken("core/keys.ts", 'import { X } from "./errors";')).toBe(1);
});

test("tests may import whatever they test with", () => {
  expect(
    broken("server/registry.test.ts", 'import { x } from "../plugins/datastores/sqlite/store.ts";'),
  ).toBe(0);
});
