/** One figure of the benchmark, beside what it is measured against in the same run. */
export interface Row {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** What it is compared with, measured in the same run. */
  readonly baselines: readonly Baseline[];
  /** What else is worth knowing. */
  readonly note?: string;
}

export interface Baseline {
  readonly name: string;
  readonly value: number;
  /** Whether the figure reaches what it should, and the words for that. */
  readonly reach?: { readonly words: string; readonly met: boolean };
}

export interface Settings {
  readonly quick: boolean;
  /** A folder on the disk that is measured. */
  readonly folder: string;
  readonly progress: (text: string) => void;
}

export type Bench = (settings: Settings) => Promise<readonly Row[]>;

/** The figure must be at least `factor` times the baseline. */
export const atLeast = (name: string, value: number, baseline: number, factor: number): Baseline => ({
  name,
  reach: { met: value >= factor * baseline, words: `≥ ${factor} ×` },
  value: baseline,
});

/** The figure must be at most `bound`, in its own unit. */
export const atMost = (name: string, value: number, bound: number, words: string): Baseline => ({
  name,
  reach: { met: value <= bound, words },
  value: bound,
});

export const beside = (name: string, value: number): Baseline => ({ name, value });

export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

export function shown(value: number): string {
  if (value >= 1_000) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(1) : value.toFixed(3);
}

const HEADINGS = ["what", "measured", "beside", "ratio", "should be", "met"];

function cellsOf(rows: readonly Row[]): string[][] {
  return rows.flatMap(({ baselines, unit, value, what }) =>
    baselines.map(({ name, reach, value: base }, i) => [
      i === 0 ? what : "",
      i === 0 ? `${shown(value)} ${unit}` : "",
      `${name}: ${shown(base)}`,
      (value / base).toFixed(2),
      reach?.words ?? "",
      reach === undefined ? "" : reach.met ? "yes" : "NO",
    ]),
  );
}

/** A table for people. */
export function tableOf(rows: readonly Row[]): string {
  const cells = [HEADINGS, ...cellsOf(rows)];
  const widths = HEADINGS.map((_, c) => Math.max(...cells.map((row) => (row[c] ?? "").length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, c) => cell.padEnd(widths[c] ?? 0))
      .join("  ")
      .trimEnd();
  const notes = rows.flatMap((r) => (r.note === undefined ? [] : [`${r.what}: ${r.note}`]));
  return `${cells.map(line).join("\n")}\n${notes.length === 0 ? "" : `\n${notes.join("\n")}\n`}`;
}

/** The same for the documents. */
export const markdownOf = (rows: readonly Row[]): string =>
  [HEADINGS, HEADINGS.map(() => "---"), ...cellsOf(rows)].map((row) => `| ${row.join(" | ")} |`).join("\n");
