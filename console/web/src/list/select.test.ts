import { expect, test } from "vitest";
import { matches, paged, sorted } from "./select.ts";

test("a filter of several words finds rows that have them all", () => {
  expect(matches("shop web-1 Running n2", "RUNNING shop")).toBe(true);
  expect(matches("shop web-1 Stopped n2", "running shop")).toBe(false);
  expect(matches("anything", " ")).toBe(true);
});

test("names are sorted as people count", () => {
  const rows = [{ name: "web-10" }, { name: "web-9" }, { name: "Web-1" }];
  expect(sorted(rows, (row) => row.name, "asc").map((row) => row.name)).toEqual(["Web-1", "web-9", "web-10"]);
  expect(sorted(rows, (row) => row.name, "desc").map((row) => row.name)).toEqual(["web-10", "web-9", "Web-1"]);
});

test("what has no value comes last in both directions, and numbers are compared as numbers", () => {
  const rows = [{ size: undefined }, { size: 9 }, { size: 100 }];
  expect(sorted(rows, (row) => row.size, "asc").map((row) => row.size)).toEqual([9, 100, undefined]);
  expect(sorted(rows, (row) => row.size, "desc").map((row) => row.size)).toEqual([100, 9, undefined]);
});

test("a page beyond the end is the last one", () => {
  expect(paged([1, 2, 3, 4, 5], 9, 2)).toEqual({ rows: [5], page: 3 });
  expect(paged([1, 2, 3], 1, 2)).toEqual({ rows: [1, 2], page: 1 });
  expect(paged([], 4, 20)).toEqual({ rows: [], page: 1 });
});

test("a thousand machines are filtered and sorted within a frame", () => {
  const rows = Array.from({ length: 1000 }, (_, index) => ({
    name: `web-${(index * 7919) % 1000}`,
    node: `n${index % 7}`,
  }));
  // Time of the processor, not of the clock: the machine may be busy.
  const begin = process.cpuUsage();
  const found = sorted(
    rows.filter((row) => matches(`${row.name} ${row.node}`, "web n3")),
    (row) => row.name,
    "asc",
  );
  const spent = process.cpuUsage(begin).user / 1000;
  expect(found.length).toBeGreaterThan(100);
  expect(spent).toBeLessThan(100);
});
