/** Names of objects. Pure. */

/** A DNS label (RFC 1123), as the API server wants of most names; `longest` where they are a part of other names. */
export const isLabel = (name: string, longest = 63): boolean =>
  name.length <= longest && /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name);
