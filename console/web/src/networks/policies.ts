/**
 * Changes of the nodes' links: the policy that asks for one, how it stands, and the countdown of a trial.
 *
 * A node keeps a change by itself once all of its probes passed twice, and rolls it back otherwise (docs/node-network.md), so
 * there is nothing to confirm here. Pure. Route in: NodeNetworkPolicies, NodeNetworkEnactments, the links of nodes. Route out: an
 * object, rows (`controller/api/src/node_network/`, `links/src/link.rs`).
 */
import type { Tone } from "../machines/view.ts";
import { isLabel } from "../parts/names.ts";
import type {
  NodeNetworkEnactment,
  NodeNetworkPolicy,
  NodeNetworkPolicySpec,
  NodeNetworkState,
} from "../types/crds.ts";

/** Seconds after which systemd rolls a trial back whatever happened (`Timeouts::alarm`, `agent/src/network/trial.rs`). */
export const TRIAL = 40;

export const KINDS = [
  { value: "bridge", label: "Bridge: what machines are connected to" },
  { value: "vlan", label: "VLAN: one number of a trunk, for the node itself" },
  { value: "bond", label: "Bond: several NICs as one" },
] as const;
export type LinkKind = (typeof KINDS)[number]["value"];

export const MODES = [
  { value: "active-backup", label: "active-backup: one works, the others stand by; with every switch" },
  { value: "802.3ad", label: "802.3ad (LACP): the switch has the ports in one group" },
  { value: "balance-xor", label: "balance-xor: by hash; the switch has a static group" },
  { value: "balance-rr", label: "balance-rr: packet by packet; the switch has a static group" },
  { value: "balance-tlb", label: "balance-tlb: outgoing packets are spread" },
  { value: "balance-alb", label: "balance-alb: both directions are spread; not in a bridge" },
  { value: "broadcast", label: "broadcast: everything on every port" },
] as const;
type Mode = (typeof MODES)[number]["value"];

export interface NewPolicy {
  name: string;
  /** Empty: every node. */
  node: string;
  kind: LinkKind;
  /** Name of the link. */
  link: string;
  /** Names of links below it, by commas. */
  ports: string;
  vlanAware: boolean;
  mode: Mode;
  /** Number of a VLAN. */
  id: string;
  parent: string;
  /** The node asks DHCP for an address on it. */
  dhcp: boolean;
  /** Bytes; empty: as usual. */
  mtu: string;
}

export const EMPTY: NewPolicy = {
  name: "",
  node: "",
  kind: "bridge",
  link: "",
  ports: "",
  vlanAware: true,
  mode: "active-backup",
  id: "",
  parent: "",
  dhcp: false,
  mtu: "",
};

const LINK = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}$/;

/** Names, by commas or spaces, each once. */
export const ports = (text: string): string[] => [...new Set(text.split(/[\s,]+/).filter((one) => one !== ""))];

const between = (text: string, first: number, last: number): boolean => {
  const number = Number(text || "x");
  return Number.isInteger(number) && number >= first && number <= last;
};

/** What is wrong with the form, by entry. */
export function check(form: NewPolicy): Partial<Record<keyof NewPolicy, string>> {
  const wrong: Partial<Record<keyof NewPolicy, string>> = {};
  if (!isLabel(form.name, 40)) wrong.name = "Lowercase letters, digits and hyphens, 40 at most.";
  if (!LINK.test(form.link)) wrong.link = "Up to 15 letters, digits, - _ and a dot, as br1.";
  const below = ports(form.ports);
  if (form.kind !== "vlan" && below.length === 0) wrong.ports = "Name the NICs or links, as enp2s0, bond1.";
  else if (below.length > 8) wrong.ports = "At most 8.";
  else if (below.includes(form.link)) wrong.ports = "It cannot be a port of itself.";
  if (form.kind === "vlan") {
    if (!between(form.id, 1, 4094)) wrong.id = "A number from 1 to 4094.";
    if (form.parent.trim() === "" || form.parent.trim() === form.link)
      wrong.parent = "Name the link that carries it, as bond1 or br1.";
  }
  if (form.mtu !== "" && !between(form.mtu, 1280, 9216)) wrong.mtu = "From 1280 to 9216 bytes.";
  return wrong;
}

function network(form: NewPolicy): NodeNetworkPolicySpec["network"] {
  const mtu = form.mtu === "" ? {} : { mtu: Number(form.mtu) };
  const dhcp = form.dhcp ? { dhcp: true } : {};
  switch (form.kind) {
    case "bridge": {
      const aware = form.vlanAware ? { vlanAware: true } : {};
      return { bridges: [{ name: form.link, ports: ports(form.ports), ...aware, ...dhcp, ...mtu }] };
    }
    case "bond":
      return { bonds: [{ name: form.link, ports: ports(form.ports), mode: form.mode, ...dhcp, ...mtu }] };
    case "vlan":
      return { vlans: [{ name: form.link, id: Number(form.id), parent: form.parent.trim(), ...dhcp, ...mtu }] };
  }
}

export const build = (form: NewPolicy): NodeNetworkPolicy => ({
  apiVersion: "sheaf.dev/v1alpha1",
  kind: "NodeNetworkPolicy",
  metadata: { name: form.name },
  spec: {
    ...(form.node === "" ? {} : { nodeSelector: { "kubernetes.io/hostname": form.node } }),
    maxUnavailable: 1,
    network: network(form),
  },
});

/** Links of nodes that can be ports: no bridges, each name once, with the nodes that have it. */
export function links(states: readonly NodeNetworkState[]): { name: string; nodes: number }[] {
  const counts = new Map<string, number>();
  for (const { status } of states)
    for (const { name, kind } of status?.links ?? [])
      if (["nic", "bond"].includes(kind)) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, nodes]) => ({ name, nodes })).sort((a, b) => a.name.localeCompare(b.name));
}

/** The links that a policy has, for people: `bridge br1, VLAN stor`. */
export function linksText({ spec: { network: of } }: NodeNetworkPolicy): string {
  const named = (word: string, list: readonly { name: string }[] | undefined) =>
    (list ?? []).map(({ name }) => `${word} ${name}`);
  return [
    ...named("NIC", of.nics),
    ...named("bond", of.bonds),
    ...named("bridge", of.bridges),
    ...named("VLAN", of.vlans),
  ].join(", ");
}

/** The nodes that a policy means, for people. */
export function nodesText({ spec }: NodeNetworkPolicy): string {
  const wanted = Object.entries(spec.nodeSelector ?? {});
  if (wanted.length === 0) return "every node";
  return wanted
    .map(([key, value]) => (key === "kubernetes.io/hostname" ? value : `nodes with ${key}=${value}`))
    .join(", ");
}

const POLICY: Record<string, [string, Tone]> = {
  Progressing: ["Being changed", "info"],
  Applied: ["Applied", "success"],
  Halted: ["Halted", "danger"],
  Removing: ["Being removed", "info"],
};
export const phase = ({ status }: NodeNetworkPolicy): [string, Tone] =>
  POLICY[status?.phase ?? ""] ?? ["Not begun", "info"];

const ENACTMENT: Record<string, [string, Tone]> = {
  Pending: ["Waits", "info"],
  Trying: ["On trial", "info"],
  Applied: ["Applied", "success"],
  Degraded: ["Applied, does not work", "warning"],
  RolledBack: ["Rolled back", "danger"],
  Refused: ["Refused", "danger"],
};

export interface EnactmentRow {
  key: string;
  node: string;
  state: string;
  tone: Tone;
  why: string;
  /** Seconds until the trial is rolled back unless all probes pass; none when nothing is on trial. */
  left: number | undefined;
  /** The change runs, of this or of an earlier version of the policy. */
  runs: string;
  probes: { name: string; text: string }[];
}

const passed = (value: boolean | undefined) => (value === undefined ? "not asked" : value ? "passed" : "failed");

/** What became of a policy on each node, what needs attention first. `now` in ms. */
export function enactments(
  policy: NodeNetworkPolicy,
  all: readonly NodeNetworkEnactment[],
  now: number,
): EnactmentRow[] {
  const rank = ["RolledBack", "Refused", "Degraded", "Trying", "Pending", "Applied"];
  const own = all.filter(({ spec }) => spec.policy === policy.metadata.name);
  const ordered = [...own].sort(
    (left, right) =>
      rank.indexOf(left.status?.phase ?? "Pending") - rank.indexOf(right.status?.phase ?? "Pending") ||
      left.spec.nodeName.localeCompare(right.spec.nodeName),
  );
  return ordered.map(({ metadata, spec, status }) => {
    const [state, tone] = ENACTMENT[status?.phase ?? "Pending"] ?? ["Waits", "info" as Tone];
    const began = Date.parse(status?.startedAt ?? "");
    const left =
      status?.phase === "Trying" && !Number.isNaN(began)
        ? Math.max(0, Math.ceil((began + TRIAL * 1000 - now) / 1000))
        : undefined;
    const applied = status?.appliedGeneration;
    const runs =
      applied === undefined
        ? "no"
        : applied === policy.metadata.generation
          ? "yes"
          : `version ${applied} of the change`;
    return {
      key: metadata.name,
      node: spec.nodeName,
      state,
      tone,
      why: status?.message ?? "",
      left,
      runs,
      probes: (status?.probes ?? []).map((probe) => ({
        name: probe.name,
        text:
          `before: ${passed(probe.before)}, after: ${passed(probe.after)}` +
          (probe.restored === undefined ? "" : `, rolled back: ${passed(probe.restored)}`) +
          (probe.message ? ` (${probe.message})` : ""),
      })),
    };
  });
}
