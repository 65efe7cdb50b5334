import { expect, test } from "vitest";
import { link, machineLink, parse, type Route } from "./route.ts";

test("every page has an address that leads back to it", () => {
  const routes: Route[] = [
    { page: "overview" },
    { page: "machines" },
    { page: "create" },
    { page: "administration" },
    { page: "account" },
    { page: "updates" },
    { page: "disks" },
    { page: "policies" },
    { page: "policy", name: "uplink" },
    { page: "node", name: "n1.example" },
    { page: "machine", project: "shop", name: "web", tab: "state" },
    { page: "machine", project: "shop", name: "web", tab: "screen" },
  ];
  for (const route of routes) expect(parse(link(route))).toEqual(route);
  expect(machineLink("shop", "web")).toBe("#/machines/shop/web");
});

test("an empty address is the overview, and one that is no page is named", () => {
  for (const hash of ["", "#", "#/", "#/overview"]) expect(parse(hash)).toEqual({ page: "overview" });
  expect(parse("#/machines/shop")).toEqual({ page: "missing", path: "machines/shop" });
  expect(parse("#/machines/shop/web/roof")).toEqual({ page: "missing", path: "machines/shop/web/roof" });
  expect(parse("#/%E0%A4%A")).toEqual({ page: "missing", path: "%E0%A4%A" });
});
