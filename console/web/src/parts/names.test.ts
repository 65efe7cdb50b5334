import { expect, test } from "vitest";
import { isLabel } from "./names.ts";

test("a label is letters, digits and hyphens within, and no longer than what it is a part of allows", () => {
  for (const name of ["a", "7", "web-2", "a".repeat(63)]) expect([name, isLabel(name)]).toEqual([name, true]);
  for (const name of ["", "A", "-a", "a-", "a.b", "a b", "a\n", "a".repeat(64)])
    expect([name, isLabel(name)]).toEqual([name, false]);
  expect([isLabel("a".repeat(40), 40), isLabel("a".repeat(41), 40)]).toEqual([true, false]);
});
