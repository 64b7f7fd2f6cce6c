/** sprig's functions on maps. Where Go goes through a map in any order, this goes by the keys. */
import { atLeast, exactly, type GoFunction } from "./define.ts";
import { toText } from "./texts.ts";
import {
  asMap,
  asText,
  failed,
  type GoMap,
  goMap,
  isMap,
  isStruct,
  isTrue,
  sortedKeys,
  type Value,
} from "./values.ts";

function toMap(values: readonly Value[]): GoMap {
  const entries: [string, Value][] = [];
  for (let at = 0; at < values.length; at += 2) {
    entries.push([toText(values[at]), at + 1 < values.length ? values[at + 1] : ""]);
  }
  return goMap(entries);
}

/** A map of one's own may be changed; data may not. */
function ownMap(value: Value): GoMap {
  const map = asMap(value);
  if (map.zero === "")
    throw failed("wrong type for value; expected map[string]interface {}; got map[string]string");
  return map;
}

const isVacant = (value: Value): boolean => !isStruct(value) && !isTrue(value);

/** Fills what the target lacks or, to overwrite, puts all of the source into it; maps inside are merged. */
function mergeInto(target: GoMap, source: GoMap, overwrites: boolean): void {
  for (const [key, value] of source.entries) {
    const there = target.entries.get(key);
    if (isMap(value) && isMap(there) && there.entries.size > 0) mergeInto(there, value, overwrites);
    else if (overwrites || isVacant(there)) target.entries.set(key, value);
  }
}

const merging = (overwrites: boolean): GoFunction =>
  atLeast(1, ([target, ...sources]) => {
    const merged = ownMap(target);
    for (const source of sources) mergeInto(merged, asMap(source), overwrites);
    return merged;
  });

const chosen = (keeps: (isNamed: boolean) => boolean): GoFunction =>
  atLeast(1, ([value, ...names]) => {
    const wanted = new Set(names.map(asText));
    return goMap([...asMap(value).entries].filter(([key]) => keeps(wanted.has(key))));
  });

function dig(values: readonly Value[]): Value {
  const initial = values.at(-2);
  let value = values.at(-1);
  for (const key of values.slice(0, -2)) {
    const map = asMap(value);
    const name = asText(key);
    if (!map.entries.has(name)) return initial;
    value = map.entries.get(name);
  }
  return value;
}

export const dictFunctions: Readonly<Record<string, GoFunction>> = {
  dict: atLeast(0, toMap),
  get: exactly(2, ([map, key]) => {
    const { entries } = asMap(map);
    return entries.has(asText(key)) ? entries.get(asText(key)) : "";
  }),
  set: exactly(3, ([map, key, value]) => {
    const changed = ownMap(map);
    changed.entries.set(asText(key), value);
    return changed;
  }),
  unset: exactly(2, ([map, key]) => {
    const changed = ownMap(map);
    changed.entries.delete(asText(key));
    return changed;
  }),
  hasKey: exactly(2, ([map, key]) => asMap(map).entries.has(asText(key))),
  pluck: atLeast(1, ([key, ...maps]) =>
    maps.flatMap((map) => {
      const { entries } = asMap(map);
      return entries.has(asText(key)) ? [entries.get(asText(key))] : [];
    }),
  ),
  keys: atLeast(0, (maps) => maps.flatMap((map) => sortedKeys(asMap(map)))),
  values: exactly(1, ([map]) => sortedKeys(asMap(map)).map((key) => asMap(map).entries.get(key))),
  pick: chosen((isNamed) => isNamed),
  omit: chosen((isNamed) => !isNamed),
  merge: merging(false),
  mustMerge: merging(false),
  mergeOverwrite: merging(true),
  mustMergeOverwrite: merging(true),
  dig: atLeast(3, dig),
};
