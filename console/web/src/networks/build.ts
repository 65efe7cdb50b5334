/**
 * Networks of machines that are made by picking a bridge and typing a number.
 *
 * Pure. Route in: the links of nodes. Route out: what can be picked; a NetworkAttachmentDefinition
 * (`controller/api/src/network/config.rs`).
 */
import { isLabel } from "../parts/names.ts";
import type { NetworkAttachmentDefinition, NodeNetworkState } from "../types/crds.ts";

/** Bridges that are the nodes' own and take no definition. */
const RESERVED = ["masq0"];
const LAST_VLAN = 4094;

export interface BridgeChoice {
  name: string;
  /** Nodes that have it. */
  nodes: string[];
  /** All of them filter VLANs on it. */
  vlanAware: boolean;
}

/** Bridges of the nodes, those that most have first. */
export function bridges(states: readonly NodeNetworkState[]): BridgeChoice[] {
  const found = new Map<string, BridgeChoice>();
  for (const { spec, status } of states) {
    for (const link of status?.links ?? []) {
      if (link.kind !== "bridge" || RESERVED.includes(link.name)) continue;
      const there = found.get(link.name) ?? { name: link.name, nodes: [], vlanAware: true };
      there.nodes.push(spec.nodeName);
      there.vlanAware &&= link.vlanAware === true;
      found.set(link.name, there);
    }
  }
  return [...found.values()].sort(
    (left, right) => right.nodes.length - left.nodes.length || left.name.localeCompare(right.name),
  );
}

export type Tagging = "vlan" | "trunk" | "untagged";

export interface NewNetwork {
  name: string;
  project: string;
  bridge: string;
  tagging: Tagging;
  /** `100`, or of a trunk `10, 200-209`. */
  vlans: string;
  /** Machines of all projects may use it. */
  isShared: boolean;
}

export const EMPTY: NewNetwork = {
  name: "",
  project: "default",
  bridge: "",
  tagging: "vlan",
  vlans: "",
  isShared: false,
};

interface Range {
  first: number;
  last: number;
}

const isVlan = (number: number) => Number.isInteger(number) && number >= 1 && number <= LAST_VLAN;

/** `10, 200-209` as ranges; undefined if it is none. */
export function ranges(text: string): Range[] | undefined {
  const found = text.split(",").map((part) => {
    const match = /^\s*(\d{1,4})(?:\s*[-–]\s*(\d{1,4}))?\s*$/.exec(part);
    const first = Number(match?.[1]);
    return { first, last: match?.[2] === undefined ? first : Number(match[2]) };
  });
  return found.every(({ first, last }) => isVlan(first) && isVlan(last) && first <= last) ? found : undefined;
}

/** What is wrong with the form, by entry. */
export function check(form: NewNetwork, choices: readonly BridgeChoice[]): Partial<Record<keyof NewNetwork, string>> {
  const wrong: Partial<Record<keyof NewNetwork, string>> = {};
  if (!isLabel(form.name)) wrong.name = "Lowercase letters, digits and hyphens.";
  const bridge = choices.find(({ name }) => name === form.bridge);
  if (!bridge) wrong.bridge = "Choose a bridge.";
  else if (form.tagging !== "untagged" && !bridge.vlanAware)
    wrong.bridge = "VLANs need a bridge that filters them on every node: set VLAN-aware in a change of links.";
  if (form.tagging === "vlan" && !isVlan(Number(form.vlans || "x"))) wrong.vlans = "A VLAN is a number from 1 to 4094.";
  if (form.tagging === "trunk" && !ranges(form.vlans)) wrong.vlans = "Numbers and ranges from 1 to 4094: 10, 200-209.";
  return wrong;
}

/** `spec.config`, with what the form has and nothing else. */
export function config({ bridge, tagging, vlans }: NewNetwork): string {
  const trunk = (ranges(vlans) ?? []).map(({ first, last }) =>
    first === last ? { id: first } : { minID: first, maxID: last },
  );
  return JSON.stringify({
    cniVersion: "0.3.1",
    type: "bridge",
    bridge,
    ...(tagging === "vlan" ? { vlan: Number(vlans) } : {}),
    ...(tagging === "trunk" ? { vlanTrunk: trunk } : {}),
  });
}

export function build(form: NewNetwork): NetworkAttachmentDefinition {
  return {
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: {
      name: form.name,
      namespace: form.project,
      ...(form.isShared && form.project !== "default" ? { labels: { "sheaf.dev/shared": "true" } } : {}),
    },
    spec: { config: config(form) },
  };
}
