/** Filters and pages as SQL. */
import { SpireError } from "../../../core/errors.ts";
import { formatSelector, type SetMatch, selectorSetKey } from "../../../core/selector.ts";
import type { EntryFilter, NodeFilter, Page, PageRequest, SelectorFilter } from "../index.ts";
import type { Connection } from "./connection.ts";

/** An SQL condition with the values of its question marks. */
export interface Condition {
  readonly sql: string;
  readonly values: readonly (string | number)[];
}

/** Where the members of a stored set lie: rows of `table` that pair `owner` with `member`. */
interface StoredSet {
  readonly table: string;
  readonly owner: string;
  readonly member: string;
}

const entrySelectors: StoredSet = { table: "entry_selectors", owner: "entry", member: "selector" };
const nodeSelectors: StoredSet = { table: "node_selectors", owner: "node", member: "selector" };
const federation: StoredSet = { table: "entry_federation", owner: "entry", member: "trust_domain" };

export function entryConditions(filter: EntryFilter): Condition[] {
  const conditions: Condition[] = [];
  const add = (sql: string, ...values: (string | number)[]) => conditions.push({ sql, values });
  if (filter.spiffeId !== undefined) add("spiffe_id = ?", filter.spiffeId);
  if (filter.parentId !== undefined) add("parent_id = ?", filter.parentId);
  if (filter.hint !== undefined) add("hint = ?", filter.hint);
  if (filter.downstream !== undefined) add("downstream = ?", Number(filter.downstream));
  if (filter.selectors) conditions.push(selectorCondition(entrySelectors, filter.selectors));
  if (filter.federatesWith) {
    const { trustDomains, match } = filter.federatesWith;
    const given = [...new Set<string>(trustDomains)];
    conditions.push(setCondition(federation, given, match, outsideOfRows));
  }
  return conditions;
}

export function nodeConditions(filter: NodeFilter): Condition[] {
  const conditions: Condition[] = [];
  const add = (sql: string, ...values: (string | number)[]) => conditions.push({ sql, values });
  if (filter.attestationType !== undefined) add("attestation_type = ?", filter.attestationType);
  if (filter.banned !== undefined) add(filter.banned ? "serial_number = ''" : "serial_number <> ''");
  if (filter.canReattest !== undefined) add("can_reattest = ?", Number(filter.canReattest));
  if (filter.expiresBefore !== undefined) add("expires_at < ?", filter.expiresBefore);
  if (filter.selectors) conditions.push(selectorCondition(nodeSelectors, filter.selectors));
  return conditions;
}

function selectorCondition(set: StoredSet, { selectors, match }: SelectorFilter): Condition {
  if (match === "exact" && selectors.length === 0) return { sql: "selectors = '[]'", values: [] };
  const given = [...new Set(selectors.map(formatSelector))];
  const condition = setCondition(set, given, match, outsideOfJson);
  if (match !== "exact") return condition;
  return {
    sql: `${condition.sql} AND selectors = ?`,
    values: [...condition.values, selectorSetKey(selectors)],
  };
}

/** SQL that finds a member of the owner's set that is not among the given ones (one JSON value). */
type Outside = (set: StoredSet) => string;

/** Selectors are in the row as JSON too, so that their table needs no index by owner. */
const outsideOfJson: Outside = () =>
  "SELECT 1 FROM json_each(selectors) AS stored WHERE stored.value NOT IN (SELECT value FROM json_each(?))";

const outsideOfRows: Outside = ({ table, owner, member }) =>
  `SELECT 1 FROM ${table} AS stored WHERE stored.${owner} = row
     AND stored.${member} NOT IN (SELECT value FROM json_each(?))`;

/** The same truth as core `matchesSet`; `given` has no doubles. */
function setCondition(
  set: StoredSet,
  given: readonly string[],
  match: SetMatch,
  outside: Outside,
): Condition {
  const { table, owner, member } = set;
  const json = JSON.stringify(given);
  const meets = `row IN (SELECT ${owner} FROM ${table} WHERE ${member} IN (SELECT value FROM json_each(?)))`;
  const contains = `row IN (SELECT ${owner} FROM ${table} WHERE ${member} IN (SELECT value FROM json_each(?))
    GROUP BY ${owner} HAVING count(*) = ?)`;
  const isInside = `NOT EXISTS (${outside(set)})`;
  switch (match) {
    case "any":
      return { sql: meets, values: [json] };
    case "subset":
      return { sql: `${meets} AND ${isInside}`, values: [json, json] };
    case "superset":
      if (given.length === 0) return { sql: "TRUE", values: [] };
      return { sql: contains, values: [json, given.length] };
    case "exact":
      if (given.length === 0) return { sql: isInside, values: [json] };
      return { sql: `${contains} AND ${isInside}`, values: [json, given.length, json] };
  }
}

/** One page of a table in order of its rows. `columns` must hold `row`. */
export function selectPage<Row extends { readonly row: number }, T>(
  connection: Connection,
  source: { readonly columns: string; readonly table: string; readonly read: (row: Row) => T },
  conditions: readonly Condition[],
  page: PageRequest,
): Page<T> {
  const all = [...conditions];
  if (page.token !== "") all.push({ sql: "row > ?", values: [parseToken(page.token)] });
  const { where, values } = joinConditions(all);
  const limit = page.size > 0 ? ` LIMIT ${Math.floor(page.size)}` : "";
  const rows = connection
    .query<Row>(`SELECT ${source.columns} FROM ${source.table}${where} ORDER BY row${limit}`)
    .all(...values);
  const last = page.size > 0 ? rows.at(-1) : undefined;
  return { items: rows.map(source.read), nextToken: last ? String(last.row) : "" };
}

export function selectCount(connection: Connection, table: string, conditions: readonly Condition[]): number {
  const { where, values } = joinConditions(conditions);
  const row = connection
    .query<{ count: number }>(`SELECT count(*) AS count FROM ${table}${where}`)
    .get(...values);
  return row?.count ?? 0;
}

function joinConditions(conditions: readonly Condition[]): { where: string; values: (string | number)[] } {
  const where = conditions.map(({ sql }) => `(${sql})`).join(" AND ");
  return { where: where && ` WHERE ${where}`, values: conditions.flatMap(({ values }) => [...values]) };
}

const highestRow = 2n ** 63n - 1n;

function parseToken(token: string): number {
  if (!/^[0-9]{1,20}$/.test(token) || BigInt(token) > highestRow)
    throw new SpireError("INTERNAL", `could not parse token '${token}'`);
  return Number(token);
}
