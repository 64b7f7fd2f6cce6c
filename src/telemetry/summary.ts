/** Quantiles of the last ten seconds, and count and sum of all, in bounded memory. */

export interface Summary {
  add(value: number): void;
  /** By the probabilities of `quantiles`; NaN when the last ten seconds had no value. */
  quantiles(): readonly number[];
  readonly count: number;
  readonly sum: number;
}

export const quantiles = [0.5, 0.9, 0.99] as const;

/** Five slices of two seconds: as Prometheus' own client divides its window. */
const sliceMs = 2_000;
const slices = 5;
/** Values that are kept of a slice; of more, a random choice of this size. */
const keptPerSlice = 256;

interface Slice {
  /** Number of the slice since the epoch of `now`. */
  index: number;
  /** Values that came, kept or not. */
  seen: number;
  readonly kept: number[];
}

/** @param now milliseconds of any epoch, never going back. */
export function createSummary(now: () => number): Summary {
  const ring: Slice[] = [];
  let count = 0;
  let sum = 0;

  function currentSlice(): Slice {
    const index = Math.floor(now() / sliceMs);
    const slice = ring[index % slices];
    if (slice?.index === index) return slice;
    const fresh = { index, seen: 0, kept: [] };
    ring[index % slices] = fresh;
    return fresh;
  }

  return {
    add(value) {
      count += 1;
      sum += value;
      keep(currentSlice(), value);
    },
    quantiles() {
      const oldest = Math.floor(now() / sliceMs) - slices + 1;
      return weightedQuantiles(ring.filter((slice) => slice.index >= oldest));
    },
    get count() {
      return count;
    },
    get sum() {
      return sum;
    },
  };
}

/** Each value of a slice has the same chance to be among those kept (Vitter's algorithm R). */
function keep(slice: Slice, value: number): void {
  slice.seen += 1;
  if (slice.kept.length < keptPerSlice) {
    slice.kept.push(value);
    return;
  }
  const place = Math.floor(Math.random() * slice.seen);
  if (place < keptPerSlice) slice.kept[place] = value;
}

/** A kept value stands for all those of its slice that were not. */
function weightedQuantiles(live: readonly Slice[]): readonly number[] {
  const values = live
    .flatMap(({ kept, seen }) => kept.map((value) => ({ value, weight: seen / kept.length })))
    .sort((a, b) => a.value - b.value);
  const total = values.reduce((weights, { weight }) => weights + weight, 0);
  return quantiles.map((probability) => {
    let below = 0;
    for (const { value, weight } of values) {
      below += weight;
      if (below >= probability * total) return value;
    }
    return values.at(-1)?.value ?? Number.NaN;
  });
}
