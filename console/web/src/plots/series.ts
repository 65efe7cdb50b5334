/**
 * What the console measured, made ready for a plot: lines, a scale, words.
 *
 * Why here: pure, so that gaps, scales and units are tested without a browser. Route in: `GET /console/metrics`
 * (`console/src/metrics.rs`). Route out: paths of SVG, labels, rows.
 */
import { bytes } from "../units.ts";

/** One list a quantity, oldest first; null where nothing is known. */
export interface Measured {
  /** Seconds of a value. */
  every: number;
  /** End of the last value, in seconds since 1970. */
  until: number;
  processors: Values;
  memory: Values;
  read: Values;
  written: Values;
  received: Values;
  sent: Values;
}

export type Values = readonly (number | null)[];
export type Unit = "processors" | "bytes" | "bytes/s";

/** A value as people write it. */
export function written(value: number | null | undefined, unit: Unit): string {
  if (value === null || value === undefined) return "–";
  if (unit === "processors") return String(Number(value.toFixed(value < 10 ? 2 : 1)));
  return unit === "bytes" ? bytes(value) : `${bytes(value)}/s`;
}

/** The top of a scale that has room for `most`: 1, 2 or 5 times a power of ten; of bytes a power of two. */
export function top(most: number, unit: Unit): number {
  if (unit !== "processors") return 2 ** Math.ceil(Math.log2(Math.max(most, 1024)));
  const power = 10 ** Math.floor(Math.log10(Math.max(most, 0.1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= most * 0.9999) ?? 10 * power;
}

export const largest = (lists: readonly Values[]): number =>
  Math.max(0, ...lists.flatMap((list) => list.filter((value) => value !== null)));

/** The last value that is known. */
export const latest = (list: Values): number | undefined => list.findLast((value) => value !== null) ?? undefined;

/**
 * A line through the values, in a field of `width` and `height` with `most` at its top. One value that is missing is passed over, as
 * a round that came late; of more the line has a gap.
 */
export function path(list: Values, most: number, width: number, height: number): string {
  const step = width / Math.max(list.length - 1, 1);
  const parts: string[] = [];
  let before = -9;
  list.forEach((value, at) => {
    if (value === null) return;
    const x = (at * step).toFixed(1);
    const y = (height - (Math.min(value, most) / most) * height).toFixed(1);
    parts.push(at - before <= 2 ? `L${x} ${y}` : `M${x} ${y}h0.1`);
    before = at;
  });
  return parts.join("");
}

/** When the value at `at` ended, in ms. */
export const timeOf = ({ every, until }: Pick<Measured, "every" | "until">, length: number, at: number): number =>
  (until - (length - 1 - at) * every) * 1000;

/** `14:30`, in the zone of the browser. */
export const clock = (ms: number): string =>
  new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });

/** Rows of the table that has the values in words: at most `most`, each the mean of some. */
export function rows(
  measured: Measured,
  lists: readonly Values[],
  unit: Unit,
  most = 24,
): { time: string; values: string[] }[] {
  const length = lists[0]?.length ?? 0;
  const each = Math.ceil(length / most);
  const made = [];
  for (let end = length; end > 0; end -= each) {
    const values = lists.map((list) => {
      const known = list.slice(Math.max(0, end - each), end).filter((value) => value !== null);
      return written(known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null, unit);
    });
    if (values.some((value) => value !== "–")) made.push({ time: clock(timeOf(measured, length, end - 1)), values });
  }
  return made;
}
