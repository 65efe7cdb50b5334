import { expect, test } from "vitest";
import { projectNames } from "./projects.ts";

test("projects of the cluster's own are not offered, and the chosen one is, though it may not be listed", () => {
  const all = ["default", "kube-system", "sheaf-console", "shop"].map((name) => ({ metadata: { name } }));
  expect(projectNames(all, "lab")).toEqual(["default", "lab", "shop"]);
  expect(projectNames([], "")).toEqual([]);
});
