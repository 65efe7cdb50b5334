/** All nodes with what is done with them, live. */
import { useMemo } from "react";
import { useObjects } from "../api/watch.ts";
import { useMachines } from "../machines/use.ts";
import { type NodeRow, row } from "./view.ts";

export function useNodes(): { nodes: NodeRow[]; isWhole: boolean } {
  const nodes = useObjects("nodes");
  const { machines } = useMachines();
  const maintenances = useObjects("maintenances").all;
  const removals = useObjects("removals").all;
  const updates = useObjects("nodeupdates").all;
  const rows = useMemo(
    () => nodes.all.map((node) => row(node, { machines, maintenances, removals, updates })),
    [nodes.all, machines, maintenances, removals, updates],
  );
  return { nodes: rows, isWhole: nodes.isWhole };
}
