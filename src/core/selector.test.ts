import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SpireError } from "./errors.ts";
import {
  formatSelector,
  matchesSet,
  parseSelector,
  type Selector,
  type SetMatch,
  selectorSetKey,
  sortSelectors,
} from "./selector.ts";

const types = fc.string({ minLength: 1, maxLength: 8 }).filter((type) => !type.includes(":"));
const values = fc.string({ minLength: 1, maxLength: 12 });
const selectors: fc.Arbitrary<Selector> = fc.record({ type: types, value: values });
const sets = fc.array(selectors, { maxLength: 6 });

describe("a selector", () => {
  test("is read back from its text, colons in the value included", () => {
    fc.assert(
      fc.property(selectors, (selector) => {
        expect(parseSelector(formatSelector(selector))).toEqual(selector);
      }),
    );
    expect(parseSelector("unix:uid:0")).toEqual({ type: "unix", value: "uid:0" });
  });

  test.each([
    ["", 'selector "" must be formatted as type:value'],
    ["unix", 'selector "unix" must be formatted as type:value'],
    [":uid", "missing selector type"],
    ["unix:", "missing selector value"],
  ])("%p is refused: %s", (text, message) => {
    expect(() => parseSelector(text)).toThrow(new SpireError("INVALID_ARGUMENT", message));
  });
});

describe("a set of selectors", () => {
  test("is sorted by type, then value, each once", () => {
    fc.assert(
      fc.property(sets, (set) => {
        const sorted = sortSelectors([...set, ...set]);
        expect(new Set(sorted.map(formatSelector))).toEqual(new Set(set.map(formatSelector)));
        for (const [index, next] of sorted.slice(1).entries()) {
          const previous = sorted[index];
          const ascends =
            previous !== undefined &&
            (previous.type < next.type || (previous.type === next.type && previous.value < next.value));
          expect(ascends).toBe(true);
        }
      }),
    );
  });

  test("has a key that tells sets apart and nothing else", () => {
    fc.assert(
      fc.property(sets, sets, (a, b) => {
        expect(selectorSetKey([...a, ...a].reverse())).toBe(selectorSetKey(a));
        const same =
          new Set(a.map(formatSelector)).symmetricDifference(new Set(b.map(formatSelector))).size === 0;
        expect(selectorSetKey(a) === selectorSetKey(b)).toBe(same);
      }),
    );
  });

  test("matches a filter by the elementary definition of each mode", () => {
    const small = fc.uniqueArray(fc.constantFrom("a", "b", "c"));
    fc.assert(
      fc.property(small, small, (stored, filter) => {
        const inFilter = stored.filter((key) => filter.includes(key)).length;
        const expected: Record<SetMatch, boolean> = {
          exact: inFilter === stored.length && inFilter === filter.length,
          subset: stored.length > 0 && inFilter === stored.length,
          superset: inFilter === filter.length,
          any: inFilter > 0,
        };
        for (const match of ["exact", "subset", "superset", "any"] as const) {
          expect(matchesSet(new Set(stored), new Set(filter), match)).toBe(expected[match]);
        }
      }),
    );
  });
});
