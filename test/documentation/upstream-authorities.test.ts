/** docs/upstream-authorities.md holds, with openssl as the PKI above the server. */
import { test } from "bun:test";
import { typePage } from "./page.ts";

test("upstream-authorities.md", () => typePage("upstream-authorities.md", 8), { timeout: 300_000 });
