import { expect, test } from "vitest";
import { added, type Grant, without, words } from "./grants.ts";

const SHOP: Grant = { role: "operate", project: "shop" };

test("a role says where it holds", () => {
  expect(words(SHOP)).toBe("Operate in shop");
  expect(words({ role: "administer" })).toBe("Administer the cluster");
});

test("the same role twice is one, in another project it is another", () => {
  expect(added([SHOP], { ...SHOP })).toEqual([SHOP]);
  expect(added([SHOP], { role: "operate" })).toHaveLength(2);
  expect(without([SHOP, { role: "operate" }], { role: "operate" })).toEqual([SHOP]);
});
