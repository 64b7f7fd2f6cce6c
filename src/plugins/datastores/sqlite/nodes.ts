/** Attested nodes in SQLite. */
import type { AttestedNode } from "../../../core/node.ts";
import { formatSelector, sortSelectors } from "../../../core/selector.ts";
import type { NodeStore } from "../index.ts";
import { recordChange } from "./changes.ts";
import type { Connection, Session } from "./connection.ts";
import { nodeConditions, selectCount, selectPage } from "./filters.ts";
import { type NodeRow, nodeValues, readNode } from "./rows.ts";

export function createNodeStore(session: Session): NodeStore {
  return {
    put: (node) => session.write((connection) => putNode(connection, node)),
    get: (id) =>
      session.read((connection) => {
        const stored = findNode(connection, id);
        return stored ? readNode(stored) : undefined;
      }),
    update: (id, fields) =>
      session.write((connection) => {
        const stored = findNode(connection, id);
        if (!stored) return undefined;
        const before = readNode(stored);
        const after = { ...before, ...fields, id, selectors: before.selectors };
        putNode(connection, after);
        return after;
      }),
    delete: (id) =>
      session.write((connection) => {
        const stored = findNode(connection, id);
        if (!stored) return undefined;
        const node = readNode(stored);
        deleteSelectors(connection, stored.row, node);
        connection.statement("DELETE FROM nodes WHERE row = ?").run(stored.row);
        recordChange(connection, "node", id);
        return node;
      }),
    list: (filter, page) =>
      session.read((connection) =>
        selectPage(
          connection,
          { columns: "*", table: "nodes", read: readNode },
          nodeConditions(filter),
          page,
        ),
      ),
    count: (filter) => session.read((connection) => selectCount(connection, "nodes", nodeConditions(filter))),
  };
}

const putSql = `INSERT INTO nodes (id, attestation_type, serial_number, expires_at, new_serial_number,
    new_expires_at, can_reattest, agent_version, selectors)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (id) DO UPDATE SET attestation_type = excluded.attestation_type,
    serial_number = excluded.serial_number, expires_at = excluded.expires_at,
    new_serial_number = excluded.new_serial_number, new_expires_at = excluded.new_expires_at,
    can_reattest = excluded.can_reattest, agent_version = excluded.agent_version,
    selectors = excluded.selectors
  RETURNING row`;

function putNode(connection: Connection, given: AttestedNode): void {
  const node = { ...given, selectors: sortSelectors(given.selectors) };
  const stored = findNode(connection, node.id);
  const written = connection.statement<{ row: number }>(putSql).get(...nodeValues(node));
  if (stored) deleteSelectors(connection, stored.row, readNode(stored));
  if (written) insertSelectors(connection, written.row, node);
  recordChange(connection, "node", node.id);
}

function findNode(connection: Connection, id: string): NodeRow | null {
  return connection.statement<NodeRow>("SELECT * FROM nodes WHERE id = ?").get(id);
}

function insertSelectors(connection: Connection, row: number, node: AttestedNode): void {
  const insert = connection.statement("INSERT INTO node_selectors (selector, node) VALUES (?, ?)");
  for (const selector of node.selectors) insert.run(formatSelector(selector), row);
}

function deleteSelectors(connection: Connection, row: number, node: AttestedNode): void {
  const remove = connection.statement("DELETE FROM node_selectors WHERE selector = ? AND node = ?");
  for (const selector of node.selectors) remove.run(formatSelector(selector), row);
}
