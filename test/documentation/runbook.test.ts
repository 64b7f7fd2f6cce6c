/** The operator's pages hold: each of their commands is typed in, in order, and prints what the page says. */
import { test } from "bun:test";
import { typePage } from "./page.ts";

test.each([
  ["runbook.md", 10],
  ["bundle-history.md", 4],
  ["rotation.md", 7],
])("%s", typePage, {
  timeout: 300_000,
});
