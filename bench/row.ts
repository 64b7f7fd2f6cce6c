/** What a benchmark row is, and how its samples are summed up. */

export interface Row {
  readonly name: string;
  readonly unit: "ms" | "MiB" | "1/s";
  /** Takes all samples of the row, in its unit. */
  readonly run: () => Promise<readonly number[]>;
}

export interface Summary {
  readonly samples: number;
  readonly median: number;
  readonly p95: number;
  readonly minimum: number;
  readonly maximum: number;
}

/** Quantiles are of the nearest rank: always a value that was measured. @throws RangeError without samples. */
export function summarise(samples: readonly number[]): Summary {
  if (samples.length === 0) throw new RangeError("no samples");
  const sorted = samples.toSorted((a, b) => a - b);
  const rank = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  return { samples: sorted.length, median: rank(0.5), p95: rank(0.95), minimum: rank(0), maximum: rank(1) };
}

/** Milliseconds since the Unix epoch, with fractions: the one clock that all processes share. */
export const epochMs = (): number => performance.timeOrigin + performance.now();
