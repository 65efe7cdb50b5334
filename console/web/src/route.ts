/**
 * Addresses of pages: what is behind `#` in the URL.
 *
 * Why here: the server knows files only, so a page is named behind the `#`, which no server gets. Pure but for the hook. Route in: a
 * hash. Route out: a [`Route`]; links.
 */
import { useSyncExternalStore } from "react";

export const TABS = ["state", "screen", "serial", "usage", "disks", "networks", "snapshots", "events", "yaml"] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { page: "overview" | (typeof PLAIN)[number] }
  | { page: "machine"; project: string; name: string; tab: Tab }
  | { page: "node"; name: string }
  | { page: "policy"; name: string }
  | { page: "missing"; path: string };

const PLAIN = [
  "machines",
  "create",
  "images",
  "storage",
  "disks",
  "networks",
  "policies",
  "nodes",
  "updates",
  "administration",
  "account",
] as const;

/** The page of a hash such as `#/machines/shop/web/disks`. */
export function parse(hash: string): Route {
  const path = hash.replace(/^#\/?/, "").replace(/\/$/, "");
  let words: string[];
  try {
    words = path.split("/").map(decodeURIComponent);
  } catch {
    return { page: "missing", path };
  }
  const [page, first, second, third] = words;
  if (path === "" || path === "overview") return { page: "overview" };
  const plain = PLAIN.find((name) => name === page);
  if (plain && words.length === 1) return { page: plain };
  if (page === "nodes" && first && words.length === 2) return { page: "node", name: first };
  if (page === "policies" && first && words.length === 2) return { page: "policy", name: first };
  if (page === "machines" && first && second && words.length <= 4) {
    const tab = TABS.find((name) => name === (third ?? "state"));
    if (tab) return { page: "machine", project: first, name: second, tab };
  }
  return { page: "missing", path };
}

/** The hash of a page. */
export function link(route: Route): string {
  switch (route.page) {
    case "machine": {
      const tab = route.tab === "state" ? "" : `/${route.tab}`;
      return `#/machines/${encodeURIComponent(route.project)}/${encodeURIComponent(route.name)}${tab}`;
    }
    case "node":
      return `#/nodes/${encodeURIComponent(route.name)}`;
    case "policy":
      return `#/policies/${encodeURIComponent(route.name)}`;
    case "missing":
      return `#/${route.path}`;
    default:
      return `#/${route.page}`;
  }
}

export const machineLink = (project: string, name: string, tab: Tab = "state"): string =>
  link({ page: "machine", project, name, tab });

/** Opens a page. */
export function go(hash: string): void {
  location.hash = hash;
}

function subscribe(reader: () => void): () => void {
  addEventListener("hashchange", reader);
  return () => removeEventListener("hashchange", reader);
}

/** The hash now. */
export function useHash(): string {
  return useSyncExternalStore(subscribe, () => location.hash);
}
