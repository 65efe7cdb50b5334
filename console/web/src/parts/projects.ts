/** Projects that machines can be in: all but those of the cluster's own parts. Pure. */
import type { Namespace } from "../types/meta.ts";
import { isLabel } from "./names.ts";

/** As `console/src/roles.rs` has them: no role is given there. */
const RESERVED = ["kube-", "sheaf-"];

const isReserved = (name: string): boolean => RESERVED.some((prefix) => name.startsWith(prefix));

/** Those of the user. */
export const own = (projects: readonly Namespace[]): Namespace[] =>
  projects.filter(({ metadata }) => !isReserved(metadata.name));

/** Names, with `chosen` among them though the user may not list projects. */
export function projectNames(projects: readonly Namespace[], chosen: string): string[] {
  const names = own(projects).map(({ metadata }) => metadata.name);
  return [...new Set([...names, chosen].filter((name) => name !== ""))].sort();
}

/** The same, to choose from. */
export const projectOptions = (projects: readonly Namespace[], chosen: string) =>
  projectNames(projects, chosen).map((name) => ({ value: name, label: name }));

export const isGoing = ({ metadata, status }: Namespace): boolean =>
  metadata.deletionTimestamp !== undefined || status?.phase === "Terminating";

/** What is wrong with the name of a new project, if something is. */
export function nameProblem(name: string, projects: readonly Namespace[]): string | undefined {
  if (!isLabel(name)) return "Lowercase letters, digits and hyphens, 63 at most; a letter or a digit at both ends.";
  if (isReserved(name)) return "Names that begin with kube- or sheaf- are the cluster's own.";
  const there = projects.find(({ metadata }) => metadata.name === name);
  if (!there) return undefined;
  return isGoing(there) ? `Project ${name} is still being deleted.` : `There is a project ${name} already.`;
}
