/** Projects that machines can be in: all but those of the cluster's own parts. Pure. */
import type { Namespace } from "../types/meta.ts";

/** As `console/src/roles.rs` has them: no role is given there. */
const RESERVED = ["kube-", "sheaf-"];

/** Names, with `chosen` among them though the user may not list projects. */
export function projectNames(projects: readonly Namespace[], chosen: string): string[] {
  const names = projects
    .map(({ metadata }) => metadata.name)
    .filter((name) => !RESERVED.some((prefix) => name.startsWith(prefix)));
  return [...new Set([...names, chosen].filter((name) => name !== ""))].sort();
}

/** The same, to choose from. */
export const projectOptions = (projects: readonly Namespace[], chosen: string) =>
  projectNames(projects, chosen).map((name) => ({ value: name, label: name }));
