/** A node as lists show it. Pure. Route in: Node, its maintenance and removal, machines. Route out: a [`NodeRow`]. */
import { condition, type Machine, type Tone } from "../machines/view.ts";
import type { NodeMaintenance, NodeRemoval, NodeUpdate } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { quantity } from "../units.ts";

export interface NodeRow {
  name: string;
  state: string;
  tone: Tone;
  why: string;
  isControlPlane: boolean;
  address: string;
  version: string;
  cpus: number | undefined;
  memory: number | undefined;
  machines: Machine[];
  maintenance: NodeMaintenance | undefined;
  removal: NodeRemoval | undefined;
  update: NodeUpdate | undefined;
  node: Node;
}

const MAINTENANCE: Record<string, [string, Tone]> = {
  Draining: ["Going into maintenance", "info"],
  Blocked: ["Maintenance blocked", "warning"],
  InMaintenance: ["In maintenance", "info"],
  Ending: ["Leaving maintenance", "info"],
  Cancelled: ["Maintenance cancelled", "warning"],
};

function state(
  node: Node,
  maintenance: NodeMaintenance | undefined,
  removal: NodeRemoval | undefined,
): [string, Tone, string] {
  const ready = condition(node.status?.conditions, "Ready");
  if (removal && removal.status?.phase !== "Cancelled")
    return ["Leaving the cluster", "warning", removal.status?.message ?? ""];
  const resting = maintenance ? MAINTENANCE[maintenance.status?.phase ?? "Draining"] : undefined;
  if (resting) return [...resting, maintenance?.status?.message ?? ""];
  if (!ready || ready.status === "Unknown") return ["Does not report", "danger", ready?.message ?? ""];
  if (ready.status !== "True") return ["Not ready", "danger", ready.message ?? ""];
  return node.spec?.unschedulable ? ["Cordoned", "warning", ""] : ["Ready", "success", ""];
}

export interface Around {
  machines: readonly Machine[];
  maintenances: readonly NodeMaintenance[];
  removals: readonly NodeRemoval[];
  updates: readonly NodeUpdate[];
}

export function row(node: Node, around: Around): NodeRow {
  const { name, labels } = node.metadata;
  const maintenance = around.maintenances.find((one) => one.spec.nodeName === name);
  const removal = around.removals.find((one) => one.spec.nodeName === name);
  const update = around.updates.find((one) => one.spec.nodeName === name);
  const [word, tone, why] = state(node, maintenance, removal);
  return {
    name,
    state: word,
    tone,
    why,
    isControlPlane: labels?.["node-role.kubernetes.io/control-plane"] !== undefined,
    address: node.status?.addresses?.find((one) => one.type === "InternalIP")?.address ?? "",
    version: update?.status?.running?.version ?? node.status?.nodeInfo?.osImage ?? "",
    cpus: quantity(node.status?.capacity?.["cpu"]),
    memory: quantity(node.status?.capacity?.["memory"]),
    machines: around.machines.filter((machine) => machine.node === name),
    maintenance,
    removal,
    update,
    node,
  };
}
