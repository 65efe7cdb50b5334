import { expect, test } from "vitest";
import { nameProblem, projectNames } from "./projects.ts";

const all = ["default", "kube-system", "lab", "sheaf-console", "shop"].map((name) => ({ metadata: { name } }));

test("projects of the cluster's own are not offered, and the chosen one is, though it may not be listed", () => {
  expect(projectNames(all, "attic")).toEqual(["attic", "default", "lab", "shop"]);
  expect(projectNames([], "")).toEqual([]);
});

test("the name of a new project is one that the server takes and nobody has", () => {
  for (const name of ["a", "web-2", "7", "a".repeat(63)])
    expect([name, nameProblem(name, all)]).toEqual([name, undefined]);
  for (const name of ["", "Shop", "-a", "a-", "a.b", "a b", "a".repeat(64)])
    expect([name, nameProblem(name, all)]).toEqual([
      name,
      "Lowercase letters, digits and hyphens, 63 at most; a letter or a digit at both ends.",
    ]);
  for (const name of ["kube-mine", "sheaf-mine"])
    expect(nameProblem(name, all)).toBe("Names that begin with kube- or sheaf- are the cluster's own.");
  expect(nameProblem("shop", all)).toBe("There is a project shop already.");
  const going = { metadata: { name: "lab" }, status: { phase: "Terminating" } };
  expect(nameProblem("lab", [going])).toBe("Project lab is still being deleted.");
});
