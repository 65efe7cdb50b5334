/** How much the nodes have, and how much of it machines have. Pure. */
import type { Machine } from "../machines/view.ts";
import type { StoragePool } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { holds } from "../machines/view.ts";
import { quantity } from "../units.ts";

export interface Amount {
  used: number;
  total: number;
}

export interface Capacity {
  /** Virtual processors of machines that run; processors of nodes that are ready. Virtual ones may be more. */
  processors: Amount;
  /** Bytes. */
  memory: Amount;
  /** Bytes that are written; bytes of all pools. */
  storage: Amount;
  /** Bytes that were promised to disks. */
  promised: number;
}

const sum = (values: (number | undefined)[]): number =>
  values.reduce<number>((total, value) => total + (value ?? 0), 0);

/** Of all nodes that are ready and all pools. */
export function capacity(
  machines: readonly Machine[],
  nodes: readonly Node[],
  pools: readonly StoragePool[],
): Capacity {
  const ready = nodes.filter((node) => holds(node.status?.conditions, "Ready"));
  const running = machines.filter((machine) => machine.vmi?.status?.phase === "Running");
  const of = (name: string) => sum(ready.map((node) => quantity(node.status?.allocatable?.[name])));
  const total = sum(pools.map((pool) => pool.status?.totalBytes));
  return {
    processors: { used: sum(running.map((machine) => machine.cpus ?? 1)), total: of("cpu") },
    memory: { used: sum(running.map((machine) => machine.memory)), total: of("memory") },
    storage: { used: total - sum(pools.map((pool) => pool.status?.freeBytes)), total },
    promised: sum(pools.map((pool) => pool.status?.provisionedBytes)),
  };
}
