/** Which rows of a list are shown: filtered, sorted, one page. Pure. */

export interface Sorting {
  /** Index of the column. */
  column: number;
  direction: "asc" | "desc";
}

/** What a cell is sorted by. */
export type SortValue = string | number | undefined;

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Whether every word of `filter` is in `text`; both without regard to case. */
export function matches(text: string, filter: string): boolean {
  const lower = text.toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => lower.includes(word));
}

/** Sorted by `value`; what has none comes last in both directions. Rows that are equal keep their order. */
export function sorted<T>(rows: readonly T[], value: (row: T) => SortValue, direction: Sorting["direction"]): T[] {
  const sign = direction === "asc" ? 1 : -1;
  const keyed = rows.map((row) => ({ row, value: value(row) }));
  keyed.sort((left, right) => {
    const [a, b] = [left.value, right.value];
    const missing = Number(a === undefined || a === "") - Number(b === undefined || b === "");
    if (missing !== 0) return missing;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b)));
  });
  return keyed.map(({ row }) => row);
}

/** One page; a page beyond the end is the last one. `page` begins with 1. */
export function paged<T>(rows: readonly T[], page: number, size: number): { rows: T[]; page: number } {
  const last = Math.max(1, Math.ceil(rows.length / size));
  const there = Math.min(Math.max(1, page), last);
  return { rows: rows.slice((there - 1) * size, there * size), page: there };
}
