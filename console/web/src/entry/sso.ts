/**
 * What became of a login at the identity provider, in words. Pure. Route in: the hash that the console sends a browser back with
 * (`console/src/sso/mod.rs`). Route out: a sentence; none if it is none of these.
 */

const WHY: Record<string, string> = {
  denied: "The identity provider did not log you in.",
  expired: "The login took too long, or began in another browser. Try again.",
  busy: "Too many logins at once. Try again.",
  provider: "The identity provider does not answer as it must. The journal of sheaf-console says why.",
  unknown: "Nobody of your name there is a user here. Ask an administrator to create one.",
};

export function refused(hash: string): string | undefined {
  return WHY[/^#\/login\/([a-z]+)$/.exec(hash)?.[1] ?? ""];
}
