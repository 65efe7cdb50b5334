import { expect, test } from "vitest";
import { check, EMPTY, path } from "./logs.ts";

test("lines of a unit are asked for as kubectl asks for them", () => {
  const form = { ...EMPTY, pattern: "time out+" };
  expect(path(form, "n1")).toBe(
    "/api/api/v1/nodes/n1/proxy/logs?query=sheaf-agent&tailLines=200&boot=0&pattern=time+out%2B",
  );
  const other = { ...EMPTY, unit: "other", name: "a@b.service", boot: "all" as const };
  expect(path(other, "n1")).toBe("/api/api/v1/nodes/n1/proxy/logs?query=a%40b.service&tailLines=200");
});

test("what the node would refuse is said at the entry", () => {
  expect(check(EMPTY)).toEqual({});
  expect(check({ ...EMPTY, unit: "other", name: "a b", lines: "0" })).toEqual({
    name: "As smartmontools.service.",
    lines: "From 1 to 100000 lines.",
  });
});
