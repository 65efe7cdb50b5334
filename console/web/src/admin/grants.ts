/** Roles of users, as the console has them (docs/console.md, "Users and roles"). Pure. */

export type Role = "view" | "operate" | "administer";

export interface Grant {
  role: Role;
  /** Without one: the whole cluster. */
  project?: string;
}

export interface User {
  name: string;
  disabled: boolean;
  /** Seconds since 1970. */
  created: number;
  roles: Grant[];
  /** What the identity provider calls him. */
  external?: string | null;
  hasPassword?: boolean;
  /** The login asks for a code besides the password. */
  secondFactor: boolean;
}

export interface Token {
  id: string;
  label: string;
  created: number;
  ends: number;
}

export const ROLES: { value: Role; label: string }[] = [
  { value: "view", label: "View" },
  { value: "operate", label: "Operate" },
  { value: "administer", label: "Administer" },
];

/** `Operate in shop`, `Administer the cluster`. */
export function words(grant: Grant): string {
  const role = ROLES.find((one) => one.value === grant.role)?.label ?? grant.role;
  return grant.project ? `${role} in ${grant.project}` : `${role} the cluster`;
}

/** How a user logs in. */
export function ways({ external, hasPassword }: User): string {
  return [hasPassword === false ? "" : "Password", external ?? ""].filter((way) => way !== "").join(", ") || "–";
}

const same = (left: Grant, right: Grant): boolean => left.role === right.role && left.project === right.project;

/** With one more; the same twice is once. */
export function added(grants: readonly Grant[], grant: Grant): Grant[] {
  return grants.some((one) => same(one, grant)) ? [...grants] : [...grants, grant];
}

export function without(grants: readonly Grant[], grant: Grant): Grant[] {
  return grants.filter((one) => !same(one, grant));
}
