import { expect, test } from "vitest";
import { refused } from "./sso.ts";

test("only the console's own words are shown, whatever a link says", () => {
  expect(refused("#/login/unknown")).toMatch(/^Nobody of your name/);
  for (const hash of ["", "#/machines", "#/login/Call 555", "#/login/unknown/more", "#/login/toString"])
    expect(refused(hash), hash).toBeUndefined();
});
