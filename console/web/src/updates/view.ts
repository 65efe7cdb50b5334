/**
 * Updates: the object that asks for one, what may be done with it, and where each node stands.
 *
 * Pure. Route in: ClusterUpdates, NodeUpdates, nodes. Route out: objects, merge patches, rows
 * (`controller/api/src/{cluster_update,node_update}.rs`, docs/update.md).
 */
import type { Tone } from "../machines/view.ts";
import type { NodeRow } from "../nodes/view.ts";
import type { ClusterUpdate, ClusterUpdateSpec, NodeUpdate } from "../types/crds.ts";

export const SOURCES = [
  { value: "url", label: "A web server" },
  { value: "oci", label: "A registry" },
  { value: "drive", label: "A drive at each node" },
  { value: "other", label: "The nodes' other slot: back to the former release" },
] as const;
export type Source = (typeof SOURCES)[number]["value"];

export const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;
export type Day = (typeof DAYS)[number];

export interface NewUpdate {
  version: string;
  source: Source;
  /** URL, reference or label. */
  at: string;
  maxUnavailable: string;
  /** Nodes are begun only at certain times. */
  hasWindow: boolean;
  days: readonly Day[];
  /** `HH:MM`, UTC. */
  from: string;
  until: string;
}

export const EMPTY: NewUpdate = {
  version: "",
  source: "url",
  at: "",
  maxUnavailable: "1",
  hasWindow: false,
  days: [],
  from: "22:00",
  until: "04:00",
};

const VERSION = /^[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?$/;
const TIME = /^([01][0-9]|2[0-3]):[0-5][0-9]$/;
const AT: Record<Exclude<Source, "other">, [RegExp, string]> = {
  url: [/^https?:\/\/[^\s@]+$/, "The address of the folder of the release: https://releases.example.org/sheaf-0.2.0"],
  oci: [/^[^\s/@:]+(:[0-9]+)?\/[^\s@]+(@sha256:[0-9a-f]{64})?$/, "As registry.example.org/sheaf:0.2.0"],
  drive: [/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "The label of its file system, as SHEAF-UPDATE"],
};

/** What is wrong with the form, by entry. */
export function check(form: NewUpdate): Partial<Record<keyof NewUpdate, string>> {
  const wrong: Partial<Record<keyof NewUpdate, string>> = {};
  if (!VERSION.test(form.version)) wrong.version = "A version is as 0.2.0 or 0.2.0-rc.1.";
  if (form.source !== "other") {
    const [fits, help] = AT[form.source];
    if (!fits.test(form.at)) wrong.at = `${help}.`;
  }
  const most = Number(form.maxUnavailable);
  if (!Number.isInteger(most) || most < 1 || most > 1000) wrong.maxUnavailable = "From 1 to 1000 nodes.";
  if (form.hasWindow) {
    if (!TIME.test(form.from)) wrong.from = "As 22:00.";
    if (!TIME.test(form.until)) wrong.until = "As 04:00.";
    else if (form.from === form.until) wrong.until = "It begins and ends at the same time.";
  }
  return wrong;
}

/** A name that no update has: `sheaf-0.2.0`, then `sheaf-0.2.0-2`. */
export function named(version: string, existing: readonly ClusterUpdate[]): string {
  const taken = new Set(existing.map(({ metadata }) => metadata.name));
  let name = `sheaf-${version}`;
  for (let number = 2; taken.has(name); number += 1) name = `sheaf-${version}-${number}`;
  return name;
}

const sourceOf = (form: NewUpdate) => (form.source === "other" ? {} : { source: { [form.source]: form.at } });

/** The request of one node. */
export const buildOne = (form: NewUpdate, node: string): NodeUpdate => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeUpdate",
  metadata: { name: node },
  spec: { nodeName: node, version: form.version, ...sourceOf(form) },
});

export function build(form: NewUpdate, existing: readonly ClusterUpdate[]): ClusterUpdate {
  const spec: ClusterUpdateSpec = {
    version: form.version,
    maxUnavailable: Number(form.maxUnavailable),
    ...sourceOf(form),
    ...(form.hasWindow
      ? {
          window: {
            ...(form.days.length > 0 ? { days: DAYS.filter((day) => form.days.includes(day)) } : {}),
            from: form.from,
            until: form.until,
          },
        }
      : {}),
  };
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "ClusterUpdate",
    metadata: { name: named(form.version, existing) },
    spec,
  };
}

const PHASES: Record<string, [string, Tone]> = {
  Pending: ["Not begun", "info"],
  WaitingForWindow: ["Waits for its time", "info"],
  Updating: ["Nodes are being updated", "info"],
  Paused: ["Paused", "warning"],
  Cancelled: ["Cancelled", "quiet"],
  Stopped: ["Stopped", "danger"],
  Updated: ["Complete", "success"],
};

/** A node works on it, or is about to. */
export const isUnderWay = (update: NodeUpdate | undefined): boolean =>
  update !== undefined &&
  !["Checked", "Staged", "Updated", "RolledBack", "Refused"].includes(update.status?.phase ?? "");

export const phase = (update: ClusterUpdate): [string, Tone] =>
  PHASES[update.status?.phase ?? "Pending"] ?? [update.status?.phase ?? "", "info"];

/** Nothing follows from it any more. */
export const isFinished = ({ status }: ClusterUpdate): boolean =>
  (status?.phase === "Updated" || status?.phase === "Cancelled") && !status.updatingNodes?.length;

/** What a button does with an update. */
export interface Act {
  label: "Pause" | "Resume" | "Cancel update";
  body: object;
}

export function acts(update: ClusterUpdate): Act[] {
  const { spec, status } = update;
  if (spec.cancelled || status?.phase === "Updated") return [];
  const pause: Act = spec.paused
    ? { label: "Resume", body: { spec: { paused: false } } }
    : { label: "Pause", body: { spec: { paused: true } } };
  return [pause, { label: "Cancel update", body: { spec: { cancelled: true } } }];
}

/** Where the source of an update is, for people. */
export function sourceText({ source }: ClusterUpdateSpec): string {
  if (source?.url) return source.url;
  if (source?.oci) return source.oci;
  return source?.drive ? `drive ${source.drive}` : "the nodes' other slot";
}

/** `22:00–04:00 UTC, Saturday, Sunday`. */
export function windowText({ window }: ClusterUpdateSpec): string {
  if (!window) return "at any time";
  const days = window.days?.length ? `, ${window.days.join(", ")}` : ", every day";
  return `${window.from}–${window.until} UTC${days}`;
}

const NODE_PHASES: Record<string, [string, Tone]> = {
  Checking: ["The release is judged", "info"],
  Checked: ["The release fits", "success"],
  Staging: ["Written to the other slot", "info"],
  Staged: ["In the other slot", "success"],
  Restarting: ["Restarts", "info"],
  OnTrial: ["On trial", "info"],
  Updated: ["Runs it", "success"],
  RolledBack: ["Rolled back", "danger"],
  Refused: ["Refused", "danger"],
  Failed: ["Failed, tried again", "warning"],
};

export interface UpdateRow {
  node: string;
  running: string;
  other: string;
  wanted: string;
  state: string;
  tone: Tone;
  why: string;
  /** It ended without the release, and is tried again when its request is deleted. */
  mayRetry: boolean;
  request: NodeUpdate | undefined;
}

/** Where each node stands: what it runs, and its request if it has one. */
export function rows(nodes: readonly NodeRow[], active: ClusterUpdate | undefined): UpdateRow[] {
  return nodes.map(({ name, version, update }) => {
    const line = active?.status?.nodes?.find((one) => one.name === name);
    const [state, tone] = NODE_PHASES[update?.status?.phase ?? ""] ?? ["", "quiet" as Tone];
    const other = update?.status?.other;
    const waits = line && ["Blocked", "Waiting"].includes(line.phase);
    return {
      node: name,
      running: version,
      other: other ? `${other.version}${other.triesLeft === undefined ? "" : " (on trial)"}` : "",
      wanted: update?.spec.version ?? "",
      state: waits ? (line.phase === "Blocked" ? "Waits" : "To be begun") : state,
      tone: waits ? (line.phase === "Blocked" ? "warning" : "quiet") : tone,
      why: (waits ? line.message : update?.status?.message) ?? line?.message ?? "",
      // sheaf-controller makes the request again for an update that still wants the version.
      mayRetry:
        ["RolledBack", "Refused"].includes(update?.status?.phase ?? "") &&
        active?.spec.version === update?.spec.version,
      request: update,
    };
  });
}

/** Releases with the number of nodes that run each, the most first. */
export function releases(nodes: readonly NodeRow[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const { version } of nodes) counts.set(version || "unknown", (counts.get(version || "unknown") ?? 0) + 1);
  return [...counts].sort((left, right) => right[1] - left[1] || left[0].localeCompare(right[0]));
}

/** The steps of an update of a node, in order. */
export const STEPS = ["Checking", "Staging", "Restarting", "OnTrial", "Updated"] as const;

export interface Step {
  title: string;
  state: "success" | "info" | "pending" | "danger" | "warning";
}

const TITLES: Record<(typeof STEPS)[number], string> = {
  Checking: "Judge the release",
  Staging: "Write the other slot",
  Restarting: "Restart",
  OnTrial: "Trial",
  Updated: "Keep",
};

/** Each step with how it went. Of what was rolled back the trial failed; of what was refused the first step. */
export function steps(update: NodeUpdate): Step[] {
  const now = update.status?.phase;
  const at: Record<string, number> = { Checked: 1, Staged: 2, Updated: 5, RolledBack: 3, Refused: 0 };
  const isStaged = update.status?.staged === update.spec.version;
  const index =
    now === "Failed" ? (isStaged ? 2 : 1) : (at[now ?? ""] ?? Math.max(0, STEPS.indexOf(now as "Checking")));
  const failed = { RolledBack: "danger", Refused: "danger", Failed: "warning" } as const;
  return STEPS.map((step, number) => {
    if (number < index) return { title: TITLES[step], state: "success" };
    if (number > index) return { title: TITLES[step], state: "pending" };
    const isAtRest = now === "Checked" || now === "Staged";
    return {
      title: TITLES[step],
      state: failed[now as keyof typeof failed] ?? (isAtRest ? "pending" : "info"),
    };
  });
}
