/**
 * A node's journal: what is asked for, and the query that asks for it.
 *
 * Pure. Route in: the form. Route out: problems by entry, a path (`agent/src/node_api/node_logs/query.rs`).
 */
import * as paths from "../api/paths.ts";

/** Units that tell most, what they are for. */
export const UNITS = [
  { value: "sheaf-agent", label: "Agent of the node" },
  { value: "libvirtd", label: "libvirt" },
  { value: "systemd-networkd", label: "Network" },
  { value: "sheaf-controller", label: "Controller of the cluster" },
  { value: "kube-apiserver", label: "API server" },
  { value: "etcd", label: "etcd" },
  { value: "sheaf-console", label: "This console" },
  { value: "init.scope", label: "systemd" },
  { value: "other", label: "Another unit" },
] as const;

export interface NewQuery {
  unit: string;
  /** Where `unit` is "other". */
  name: string;
  boot: "0" | "-1" | "all";
  lines: string;
  pattern: string;
}

export const EMPTY: NewQuery = { unit: "sheaf-agent", name: "", boot: "0", lines: "200", pattern: "" };

const MOST_LINES = 100_000;

/** What is wrong with the form, by entry. */
export function check(form: NewQuery): Partial<Record<keyof NewQuery, string>> {
  const wrong: Partial<Record<keyof NewQuery, string>> = {};
  if (form.unit === "other" && !/^[A-Za-z0-9_.:@-]{1,256}$/.test(form.name)) wrong.name = "As smartmontools.service.";
  const lines = Number(form.lines);
  if (!Number.isInteger(lines) || lines < 1 || lines > MOST_LINES) wrong.lines = `From 1 to ${MOST_LINES} lines.`;
  return wrong;
}

export function path(form: NewQuery, node: string): string {
  const query = new URLSearchParams({ query: form.unit === "other" ? form.name : form.unit, tailLines: form.lines });
  if (form.boot !== "all") query.set("boot", form.boot);
  if (form.pattern) query.set("pattern", form.pattern);
  return `${paths.nodeLogs(node)}?${query.toString()}`;
}
