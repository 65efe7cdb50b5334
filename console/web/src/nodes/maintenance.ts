/**
 * A maintenance: the object that asks for it, and how far each machine of the node is.
 *
 * Pure. Route in: NodeMaintenance, machines. Route out: the object, rows (`controller/api/src/node_maintenance.rs`).
 */
import type { Machine, Tone } from "../machines/view.ts";
import type { NodeMaintenance } from "../types/crds.ts";

/** Minutes after which a node that is not drained is given back; the server takes 30 s to a week. */
const [SHORTEST, LONGEST] = [1, 10_080];

export interface NewMaintenance {
  node: string;
  reason: string;
  /** Minutes; empty: it waits until somebody removes what blocks. */
  deadline: string;
}

export function check({ deadline }: NewMaintenance): Partial<Record<keyof NewMaintenance, string>> {
  const minutes = Number(deadline);
  const fits = deadline === "" || (Number.isInteger(minutes) && minutes >= SHORTEST && minutes <= LONGEST);
  return fits ? {} : { deadline: "From 1 minute to 10080, a week." };
}

export function build({ node, reason, deadline }: NewMaintenance): NodeMaintenance {
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeMaintenance",
    metadata: { name: node },
    spec: {
      nodeName: node,
      ...(reason === "" ? {} : { reason }),
      ...(deadline === "" ? {} : { deadlineSeconds: Number(deadline) * 60 }),
    },
  };
}

export interface Progress {
  key: string;
  state: string;
  tone: Tone;
  text: string;
}

/** Each machine that was or is here, those that are still here first. */
export function progress(maintenance: NodeMaintenance, machines: readonly Machine[]): Progress[] {
  const { status } = maintenance;
  const here = machines.filter((machine) => machine.vmi);
  const stopping = status?.stopping ?? [];
  const rows: Progress[] = here.map(({ key }) => {
    // Each line begins with its machine: `shop/web: is asked to power off, …`.
    const line = stopping.find((one) => one.startsWith(`${key}: `));
    return line
      ? { key, state: "Shuts down", tone: "info", text: line.slice(key.length + 2) }
      : { key, state: "Runs here", tone: "warning", text: "" };
  });
  const seen = new Set(here.map(({ key }) => key));
  for (const { namespace, name, held, restart } of status?.stopped ?? []) {
    const key = `${namespace}/${name}`;
    if (seen.has(key)) continue;
    const text = held
      ? "Its disks are here: it starts when the maintenance ends"
      : restart
        ? "It is started on another node"
        : "It starts on another node that has room";
    rows.push({ key, state: "Shut down", tone: "success", text });
  }
  return rows;
}

/** What ending it is called: before the node rests nothing of it was of use. */
export const endWord = (maintenance: NodeMaintenance): string =>
  ["Draining", "Blocked"].includes(maintenance.status?.phase ?? "Draining") ? "Cancel maintenance" : "End maintenance";
