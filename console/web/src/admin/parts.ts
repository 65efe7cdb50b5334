/** Parts of the administration, by who may use them. Pure. */

export type Part = "users" | "projects" | "provider" | "own";
type Titled = readonly [Part, string];

const OWN: Titled = ["own", "Own password and tokens"];

/** What who does not administer the cluster is told. */
export const ASK =
  "Users, projects and the identity provider are managed by administrators of the cluster. Ask one of them.";

/** What is offered, what is shown at first before all else. */
export const parts = (administers: boolean): readonly [Titled, ...Titled[]] =>
  administers
    ? [["users", "Users and roles"], ["projects", "Projects"], ["provider", "Identity provider"], OWN]
    : [OWN];
