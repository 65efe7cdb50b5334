import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { largest, latest, path, rows, timeOf, top, written, type Measured } from "./series.ts";

const measured = (processors: (number | null)[]): Measured => ({
  every: 30,
  until: 1_800_000_000,
  processors,
  memory: [],
  read: [],
  written: [],
  received: [],
  sent: [],
});

test("a value has its unit, and what is not known is a dash", () => {
  expect(written(0.123, "processors")).toBe("0.12");
  expect(written(12.34, "processors")).toBe("12.3");
  expect(written(1536, "bytes")).toBe("1.5 KiB");
  expect(written(2048, "bytes/s")).toBe("2 KiB/s");
  expect(written(null, "bytes")).toBe("–");
});

test("a scale ends at a round number above the values", () => {
  expect([0, 0.3, 0.5, 1.2, 7, 48].map((most) => top(most, "processors"))).toEqual([0.1, 0.5, 0.5, 2, 10, 50]);
  expect(top(0, "bytes/s")).toBe(1024);
  expect(top(5e9, "bytes")).toBe(8 * 2 ** 30);
});

test("a line passes over one value that is missing and has a gap where more are", () => {
  expect(path([0, 1, null, 1, null, null, 0.5], 1, 60, 10)).toBe("M0.0 10.0h0.1L10.0 0.0L30.0 0.0M60.0 5.0h0.1");
  expect(path([null, null], 1, 60, 10)).toBe("");
  expect(path([7], 1, 60, 10)).toBe("M0.0 0.0h0.1");
});

test("the table has means, the newest first, and no rows where nothing is known", () => {
  const list = [null, null, 1, 3, 2, 2];
  const shown = rows(measured(list), [list], "processors", 3);
  expect(shown.map((row) => row.values)).toEqual([["2"], ["2"]]);
  expect(timeOf(measured(list), 6, 5)).toBe(1_800_000_000_000);
  expect(timeOf(measured(list), 6, 0)).toBe(1_799_999_850_000);
  expect([largest([list]), latest(list), latest([null])]).toEqual([3, 2, undefined]);
});

test("the console answers with the lists that plots are made of", () => {
  const source = readFileSync(new URL("../../../src/metrics.rs", import.meta.url), "utf8");
  for (const [name, value] of Object.entries(measured([])))
    expect(source).toContain(Array.isArray(value) ? `"${name}": list(` : `"${name}": `);
});
