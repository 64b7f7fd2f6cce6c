import { expect, test } from "bun:test";
import { createConnectionLimit } from "./connection-limit.ts";

function setUp(most: number) {
  const dropped: string[] = [];
  const limit = createConnectionLimit<{ destroy(): void }>(most, () => {});
  const open = (name: string, host: string) => {
    const connection = { destroy: () => void dropped.push(name) };
    limit.add(connection, host);
    return connection;
  };
  return { limit, open, dropped };
}

test("the host with most connections loses its oldest", () => {
  const { open, dropped } = setUp(4);
  open("a1", "a");
  open("b1", "b");
  open("b2", "b");
  open("a2", "a");
  expect(dropped).toEqual([]);
  open("b3", "b");
  expect(dropped).toEqual(["b1"]);
  open("b4", "b");
  expect(dropped).toEqual(["b1", "b2"]);
});

test("a connection that ended, or has shown an SVID, counts no more", () => {
  const { limit, open, dropped } = setUp(1);
  const first = open("a1", "a");
  limit.remove(first);
  limit.remove(first);
  open("a2", "a");
  expect(dropped).toEqual([]);
});

test("a connection whose client becomes known counts for that client", () => {
  const { limit, open, dropped } = setUp(3);
  const first = open("a1", "proxy");
  open("b1", "proxy");
  limit.add(first, "a");
  open("b2", "proxy");
  open("b3", "proxy");
  expect(dropped).toEqual(["b1"]);
});
