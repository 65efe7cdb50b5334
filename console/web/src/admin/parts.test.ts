import { expect, test } from "vitest";
import { parts } from "./parts.ts";

test("who does not administer the cluster is offered what is his own, and nothing else", () => {
  const titles = (administers: boolean) => parts(administers).map(([, title]) => title);
  expect(titles(false)).toEqual(["Own password and tokens"]);
  expect(titles(true)).toEqual(["Users and roles", "Projects", "Identity provider", "Own password and tokens"]);
});
